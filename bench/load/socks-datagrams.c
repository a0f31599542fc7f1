/* The relay of one UDP association. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load.h"
#include "socks-server.h"

#define BATCH 16
#define DATAGRAM_BYTES 65536

struct association {
	unsigned mark;
	int fd;
	struct in_addr client_address;
	/* Port 0 until the client's first datagram. */
	struct sockaddr_in client;
};

struct association *open_association(int poller, int control, struct in_addr address, struct sockaddr_in *relay)
{
	struct association *association = calloc(1, sizeof(*association));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = association };
	struct sockaddr_in peer;
	socklen_t length = sizeof(peer);

	if (!association || getpeername(control, (struct sockaddr *)&peer, &length) < 0) {
		free(association);
		return NULL;
	}
	association->mark = ASSOCIATION_MARK;
	association->client_address = peer.sin_addr;
	association->fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
	(void)setsockopt(association->fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ 4 << 20 }, sizeof(int));
	*relay = endpoint(address, 0);
	check(bind(association->fd, (struct sockaddr *)relay, sizeof(*relay)), "bind");
	length = sizeof(*relay);
	check(getsockname(association->fd, (struct sockaddr *)relay, &length), "getsockname");
	check(epoll_ctl(poller, EPOLL_CTL_ADD, association->fd, &event), "epoll_ctl");
	return association;
}

void close_association(struct association *association)
{
	static __thread struct association *previous;

	close(association->fd);
	association->fd = -1;
	free(previous);
	previous = association;
}

/*
 * Where a datagram goes: the client's lose their header, others get one. Bytes lie at `SOCKS_HEADER` in the buffer;
 * false drops the datagram.
 */
static bool turn_around(struct association *association, struct sockaddr_in *name, struct iovec *vector, size_t length)
{
	uint8_t *bytes = vector->iov_base;

	if (name->sin_addr.s_addr == association->client_address.s_addr) {
		if (length < SOCKS_HEADER || bytes[2] != 0 || bytes[3] != 1)
			return false;
		association->client = *name;
		memcpy(&name->sin_addr, bytes + 4, 4);
		memcpy(&name->sin_port, bytes + 8, 2);
		vector->iov_base = bytes + SOCKS_HEADER;
		vector->iov_len = length - SOCKS_HEADER;
		return true;
	}
	if (association->client.sin_port == 0)
		return false;
	bytes -= SOCKS_HEADER;
	socks_request(bytes, 0, *name);
	bytes[0] = 0;
	*name = association->client;
	vector->iov_base = bytes;
	vector->iov_len = length + SOCKS_HEADER;
	return true;
}

void relay_datagrams(struct association *association)
{
	static __thread uint8_t buffers[BATCH][SOCKS_HEADER + DATAGRAM_BYTES];
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];
	struct sockaddr_in names[BATCH];
	int got;
	unsigned kept = 0;

	if (association->fd < 0)
		return;
	for (int index = 0; index < BATCH; index++) {
		vectors[index] = (struct iovec){ buffers[index] + SOCKS_HEADER, DATAGRAM_BYTES };
		messages[index].msg_hdr = (struct msghdr){
			.msg_name = &names[index], .msg_namelen = sizeof(names[index]), .msg_iov = &vectors[index], .msg_iovlen = 1,
		};
	}
	got = recvmmsg(association->fd, messages, BATCH, 0, NULL);
	for (int index = 0; index < got; index++)
		if (turn_around(association, &names[index], &vectors[index], messages[index].msg_len))
			messages[kept++].msg_hdr = messages[index].msg_hdr;
	if (kept > 0)
		(void)sendmmsg(association->fd, messages, kept, 0);
}
