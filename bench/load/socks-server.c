/*
 * A SOCKS5 server that is not the bottleneck: no authentication, IPv4, CONNECT and UDP ASSOCIATE. Short messages are
 * copied, bulk is spliced through pipes that exist only on flows with bulk. Two processes, for 10,000 connections are
 * 20,000 descriptors, which is the limit of one process on some machines; SO_REUSEPORT shares the connections out.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "load.h"
#include "socks-server.h"

#define WORKERS 2
#define COPY_BYTES (32 * 1024)
#define PIPE_BYTES (1024 * 1024)

enum stage { GREETING, REQUESTING, DIALING, RELAYING, ASSOCIATED };

/* One direction's reader. `pipe` is -1 until the direction has shown bulk; `piped` bytes wait in it. */
struct side {
	int fd;
	int pipe[2];
	size_t piped;
	bool ended;
	bool shut;
};

struct flow {
	enum stage stage;
	struct side client;
	struct side upstream;
	struct association *association;
	uint8_t request[SOCKS_HEADER];
	size_t had;
	bool dead;
	struct flow *next_dead;
};

static int listener;
static struct sockaddr_in own_endpoint;

static void watch(int poller, int fd, uint32_t events, void *data)
{
	struct epoll_event event = { .events = events, .data.ptr = data };

	check(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void close_side(struct side *side)
{
	if (side->fd >= 0)
		close(side->fd);
	if (side->pipe[0] >= 0) {
		close(side->pipe[0]);
		close(side->pipe[1]);
	}
}

/* The other side of a failed flow gets a reset, not an end that looks whole. */
static void reset_side(const struct side *side)
{
	struct linger linger = { .l_onoff = 1 };

	if (side->fd >= 0)
		(void)setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void end_flow(struct flow *flow)
{
	close_side(&flow->client);
	close_side(&flow->upstream);
	if (flow->association)
		close_association(flow->association);
	free(flow);
}

static bool reply(struct flow *flow, int code, struct sockaddr_in bound)
{
	uint8_t message[SOCKS_HEADER];

	socks_request(message, code, bound);
	return send(flow->client.fd, message, sizeof(message), 0) == sizeof(message) && code == 0;
}

/* Copies while it is little; true when the direction should go on by splice. `to_end`: no event tells of an end behind it. */
static bool copy_little(struct side *from, struct side *to, bool to_end)
{
	static __thread char bytes[COPY_BYTES];
	ssize_t got, sent;

	do {
		got = recv(from->fd, bytes, sizeof(bytes), 0);
		if (got <= 0) {
			from->ended = got == 0 || errno != EAGAIN;
			return false;
		}
		sent = send(to->fd, bytes, (size_t)got, 0);
	} while (to_end && sent == got && got < COPY_BYTES);
	if (sent == got && got < COPY_BYTES)
		return false;
	check(pipe2(from->pipe, O_NONBLOCK | O_CLOEXEC), "pipe");
	(void)fcntl(from->pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
	from->piped = (size_t)(got - (sent < 0 ? 0 : sent));
	if (from->piped > 0 && write(from->pipe[1], bytes + got - from->piped, from->piped) != (ssize_t)from->piped)
		fail("a pipe is too small: %s", strerror(errno));
	return true;
}

/* Moves bytes until neither end can go on; false when the flow has failed. */
static bool pump(struct side *from, struct side *to, bool to_end)
{
	bool moved = true;

	if (from->pipe[0] < 0 && !from->ended && !copy_little(from, to, to_end) && !from->ended)
		return true;
	while (moved && from->pipe[0] >= 0) {
		ssize_t count;

		moved = false;
		if (!from->ended) {
			count = splice(from->fd, NULL, from->pipe[1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
			if (count < 0 && errno != EAGAIN)
				return false;
			from->ended = count == 0;
			from->piped += count > 0 ? (size_t)count : 0;
			moved = count > 0;
		}
		if (from->piped == 0)
			continue;
		count = splice(from->pipe[0], NULL, to->fd, NULL, from->piped, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (count < 0 && errno != EAGAIN)
			return false;
		from->piped -= count > 0 ? (size_t)count : 0;
		moved = moved || count > 0;
	}
	if (from->ended && from->piped == 0 && !to->shut) {
		to->shut = true;
		(void)shutdown(to->fd, SHUT_WR);
	}
	return true;
}

static bool dial(int poller, struct flow *flow)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	memcpy(&to.sin_addr, flow->request + 4, 4);
	memcpy(&to.sin_port, flow->request + 8, 2);
	flow->upstream.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (flow->upstream.fd < 0)
		return reply(flow, 1, own_endpoint);
	(void)setsockopt(flow->upstream.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (connect(flow->upstream.fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		return reply(flow, 5, own_endpoint);
	flow->stage = DIALING;
	watch(poller, flow->upstream.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, flow);
	return true;
}

static bool associate(int poller, struct flow *flow)
{
	struct sockaddr_in relay;

	flow->association = open_association(poller, flow->client.fd, own_endpoint.sin_addr, &relay);
	flow->stage = ASSOCIATED;
	return flow->association && reply(flow, 0, relay);
}

/* Reads the greeting (one method offered) or the request, however they are cut; false ends the flow. */
static bool handshake(int poller, struct flow *flow)
{
	size_t wanted = flow->stage == GREETING ? 3 : SOCKS_HEADER;
	ssize_t got = recv(flow->client.fd, flow->request + flow->had, wanted - flow->had, 0);

	if (got < 0 && errno == EAGAIN)
		return true;
	if (got <= 0)
		return false;
	flow->had += (size_t)got;
	if (flow->had < wanted)
		return true;
	flow->had = 0;
	if (flow->stage == GREETING) {
		if (flow->request[0] != 5 || flow->request[1] != 1 || flow->request[2] != 0)
			return false;
		flow->stage = REQUESTING;
		return send(flow->client.fd, "\x05\x00", 2, 0) == 2 && handshake(poller, flow);
	}
	if (flow->request[3] == 1 && flow->request[1] == 3)
		return associate(poller, flow);
	return flow->request[3] == 1 && flow->request[1] == 1 ? dial(poller, flow) : reply(flow, 7, own_endpoint);
}

static bool finish_dial(struct flow *flow)
{
	int error = 0;
	struct tcp_info info;
	socklen_t length = sizeof(error), info_length = sizeof(info);

	(void)getsockopt(flow->upstream.fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error != 0)
		return reply(flow, error == ECONNREFUSED ? 5 : 4, own_endpoint);
	(void)getsockopt(flow->upstream.fd, IPPROTO_TCP, TCP_INFO, &info, &info_length);
	if (info.tcpi_state == TCP_SYN_SENT)
		return true;
	flow->stage = RELAYING;
	return reply(flow, 0, own_endpoint);
}

/* The client has gone while its connection is being dialed for. */
static bool is_abandoned(const struct flow *flow)
{
	ssize_t got = recv(flow->client.fd, &(char){ 0 }, 1, MSG_PEEK);

	return got == 0 || (got < 0 && errno != EAGAIN);
}

/* One event of either side; false ends the flow. */
static bool turn(int poller, struct flow *flow, uint32_t events)
{
	bool to_end = (events & EPOLLRDHUP) || flow->stage == DIALING;

	if (flow->stage == ASSOCIATED)
		return recv(flow->client.fd, &(char){ 0 }, 1, 0) != 0 && !(events & (EPOLLERR | EPOLLHUP));
	if (flow->stage < DIALING)
		return handshake(poller, flow);
	if (flow->stage == DIALING && (events & (EPOLLRDHUP | EPOLLERR)) && is_abandoned(flow))
		return false;
	if (flow->stage == DIALING && !finish_dial(flow))
		return false;
	if (flow->stage != RELAYING)
		return true;
	if ((events & EPOLLERR) || !pump(&flow->client, &flow->upstream, to_end) || !pump(&flow->upstream, &flow->client, to_end)) {
		reset_side(&flow->client);
		reset_side(&flow->upstream);
		return false;
	}
	return !(flow->client.shut && flow->upstream.shut);
}

static void accept_all(int poller)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct flow *flow = calloc(1, sizeof(*flow));

		if (!flow)
			fail("out of memory");
		*flow = (struct flow){ .client = { .fd = fd, .pipe = { -1, -1 } }, .upstream = { .fd = -1, .pipe = { -1, -1 } } };
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		watch(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, flow);
	}
}

static _Noreturn void work(void)
{
	int poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	struct epoll_event events[64];

	watch(poller, listener, EPOLLIN, NULL);
	for (;;) {
		int ready = check(epoll_wait(poller, events, 64, -1), "epoll_wait");
		struct flow *dead = NULL;

		for (int index = 0; index < ready; index++) {
			struct flow *flow = events[index].data.ptr;

			if (!flow) {
				accept_all(poller);
			} else if (is_association(flow)) {
				relay_datagrams((struct association *)(void *)flow);
			} else if (!flow->dead && !turn(poller, flow, events[index].events)) {
				flow->dead = true;
				flow->next_dead = dead;
				dead = flow;
			}
		}
		while (dead) {
			struct flow *next = dead->next_dead;

			end_flow(dead);
			dead = next;
		}
	}
}

void run_socks_server(const struct options *options)
{
	int port = ntohs(options->proxy.sin_port);

	own_endpoint = options->proxy;
	for (int index = 1; index < WORKERS; index++) {
		listener = listen_on(port);
		if (check(fork(), "fork") == 0) {
			check(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
			work();
		}
		close(listener);
	}
	listener = listen_on(port);
	check((int)write(STDOUT_FILENO, "{}\n", 3), "write");
	work();
}
