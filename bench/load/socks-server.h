/* The UDP half of the SOCKS5 server (RFC 1928 section 7), full cone: one socket for an association. */
#ifndef SOCKS_SERVER_H
#define SOCKS_SERVER_H

#include <netinet/in.h>
#include <stdbool.h>

/* First word of what an epoll event of the server points to when it is an association; a flow's stage is never this. */
#define ASSOCIATION_MARK 0x55445021u

struct association;

/* Opens the relay socket at `address` for the client at the other end of `control` and watches it; NULL on failure. */
struct association *open_association(int poller, int control, struct in_addr address, struct sockaddr_in *relay);
/* Moves what the socket has, at most a few batches. */
void relay_datagrams(struct association *association);
/* The memory stays until the epoll batch under way is over: freed by the next call in the same thread. */
void close_association(struct association *association);

static inline bool is_association(const void *watched)
{
	return *(const unsigned *)watched == ASSOCIATION_MARK;
}

#endif
