/*
 * The UDP destinations: echo, sink and source, a socket for each address, so that answers leave from the address that
 * was asked.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define BATCH 32
#define DATAGRAM_BYTES 65536
#define RUNS 4096

static struct {
	_Atomic uint32_t run;
	_Atomic uint64_t count;
} counts[RUNS];

static void add_count(uint32_t run, uint64_t datagrams)
{
	size_t row = run % RUNS;

	if (counts[row].run != run) {
		counts[row].count = 0;
		counts[row].run = run;
	}
	counts[row].count += datagrams;
}

static int bind_udp(struct in_addr address, int port)
{
	struct sockaddr_in at = endpoint(address, port);
	int fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ 4 << 20 }, sizeof(int));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &(int){ 4 << 20 }, sizeof(int));
	check(bind(fd, (struct sockaddr *)&at, sizeof(at)), "bind");
	return fd;
}

uint64_t send_paced(int fd, const struct sockaddr_in *to, const uint8_t *header, size_t header_bytes,
                    struct bulk_datagram order)
{
	uint8_t bytes[SOCKS_HEADER + DATAGRAM_BYTES] = { 0 };
	struct iovec vector = { bytes, header_bytes + order.payload_bytes };
	struct mmsghdr messages[BATCH];
	double per_ns = (double)order.megabits / 1000.0 / (8.0 * order.payload_bytes);
	uint64_t start = now_ns();
	uint64_t length_ns = (uint64_t)order.milliseconds * 1000000u;
	uint64_t sent = 0;

	memcpy(bytes, header, header_bytes);
	memcpy(bytes + header_bytes, &order, sizeof(order));
	for (int index = 0; index < BATCH; index++)
		messages[index].msg_hdr = (struct msghdr){ .msg_name = (void *)to, .msg_namelen = to ? sizeof(*to) : 0, .msg_iov = &vector, .msg_iovlen = 1 };
	for (uint64_t passed = 0; passed < length_ns; passed = now_ns() - start) {
		uint64_t due = (uint64_t)((double)passed * per_ns);
		unsigned want = due > sent + BATCH ? BATCH : (unsigned)(due - sent);

		if (want == 0) {
			clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 50000 }, NULL);
			continue;
		}
		int taken = sendmmsg(fd, messages, want, 0);

		if (taken < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED)
			fail("sendmmsg: %s", strerror(errno));
		sent += taken > 0 ? (uint64_t)taken : 0;
	}
	return sent;
}

struct order_at {
	int fd;
	struct sockaddr_in to;
	struct bulk_datagram order;
};

static void *send_order(void *argument)
{
	struct order_at *at = argument;

	add_count(at->order.run, send_paced(at->fd, &at->to, NULL, 0, at->order));
	free(at);
	return NULL;
}

static void take_order(int fd, const struct sockaddr_in *from, const uint8_t *bytes)
{
	struct order_at *at = malloc(sizeof(*at));
	size_t row;

	if (!at)
		fail("out of memory");
	at->fd = fd;
	at->to = *from;
	memcpy(&at->order, bytes, sizeof(at->order));
	row = at->order.run % RUNS;
	if (counts[row].run == at->order.run || at->order.payload_bytes > DATAGRAM_BYTES - 64) {
		free(at);
		return;
	}
	add_count(at->order.run, 0);
	start_thread(send_order, at);
}

/* Takes what one socket has, at most a batch. */
static void take_batch(int fd, int port, struct mmsghdr *messages)
{
	int got;

	for (int index = 0; index < BATCH; index++) {
		messages[index].msg_hdr.msg_namelen = sizeof(struct sockaddr_in);
		messages[index].msg_hdr.msg_iov->iov_len = DATAGRAM_BYTES;
	}
	got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int index = 0; index < got; index++) {
		const uint8_t *bytes = messages[index].msg_hdr.msg_iov->iov_base;
		uint32_t run;

		messages[index].msg_hdr.msg_iov->iov_len = messages[index].msg_len;
		if (port == PORT_UDP_ECHO || messages[index].msg_len < sizeof(struct bulk_datagram))
			continue;
		memcpy(&run, bytes, sizeof(run));
		if (port == PORT_UDP_SINK)
			add_count(run, 1);
		else
			take_order(fd, messages[index].msg_hdr.msg_name, bytes);
	}
	if (port == PORT_UDP_ECHO && got > 0)
		(void)sendmmsg(fd, messages, (unsigned)got, 0);
}

struct group {
	const struct options *options;
	int port;
	int fds[MAX_ADDRESSES];
};

static void *serve_group(void *argument)
{
	struct group *group = argument;
	struct pollfd ready[MAX_ADDRESSES];
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];
	struct sockaddr_in names[BATCH];
	int count = group->options->address_count;

	for (int index = 0; index < BATCH; index++) {
		vectors[index].iov_base = malloc(DATAGRAM_BYTES);
		messages[index].msg_hdr = (struct msghdr){ .msg_name = &names[index], .msg_iov = &vectors[index], .msg_iovlen = 1 };
	}
	for (int index = 0; index < count; index++)
		ready[index] = (struct pollfd){ .fd = group->fds[index], .events = POLLIN };
	for (;;) {
		check(poll(ready, (nfds_t)count, -1), "poll");
		for (int index = 0; index < count; index++)
			if (ready[index].revents)
				take_batch(ready[index].fd, group->port, messages);
	}
	return NULL;
}

/* Answers how many datagrams a run has counted. Runs in the caller's thread and prints `{}` once all ports are open. */
static _Noreturn void serve_counts(void)
{
	int listener = listen_on(PORT_UDP_COUNT);
	struct pollfd ready = { .fd = listener, .events = POLLIN };

	check((int)write(STDOUT_FILENO, "{}\n", 3), "write");
	for (;;) {
		uint32_t run;
		uint64_t count;
		int fd;

		check(poll(&ready, 1, -1), "poll");
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (recv(fd, &run, sizeof(run), MSG_WAITALL) == sizeof(run)) {
			count = counts[run % RUNS].run == run ? counts[run % RUNS].count : 0;
			(void)send(fd, &count, sizeof(count), 0);
		}
		close(fd);
	}
}

void run_udp_servers(const struct options *options)
{
	static struct group groups[3] = { { .port = PORT_UDP_ECHO }, { .port = PORT_UDP_SINK }, { .port = PORT_UDP_SOURCE } };

	for (int index = 0; index < 3; index++) {
		groups[index].options = options;
		for (int each = 0; each < options->address_count; each++)
			groups[index].fds[each] = bind_udp(options->addresses[each], groups[index].port);
		start_thread(serve_group, &groups[index]);
	}
	serve_counts();
}
