/*
 * Many connections from one thread: each is a small state machine over epoll that connects, speaks SOCKS5 if so asked,
 * and exchanges a message; the runs differ in what they do afterwards.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load.h"

#define MESSAGE_BYTES 64
#define HTTP_REQUEST "GET /%d HTTP/1.1\r\nHost: bench\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n"
#define READ_BYTES (256 * 1024)
#define STALL_MS 5000

enum state { CONNECTING, GREETING, REQUESTING, EXCHANGING };

struct connection {
	int fd;
	enum state state;
	uint64_t start_ns;
	/* Bytes of the current answer. */
	size_t had;
	size_t wanted;
};

static const struct options *run;
static int poller;
static int port;
static const char *message;
static size_t message_bytes;
static size_t answer_bytes;

static void begin(struct connection *connection)
{
	struct sockaddr_in to = run->socks ? run->proxy : endpoint(run->destination, port);
	struct epoll_event event = { .events = EPOLLOUT, .data.ptr = connection };

	*connection = (struct connection){ .start_ns = now_ns() };
	connection->fd = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
	check(setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), "TCP_NODELAY");
	if (connect(connection->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		fail("connect: %s", strerror(errno));
	check(epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event), "epoll_ctl");
}

static void ask(struct connection *connection, enum state state, const void *bytes, size_t length, size_t wanted)
{
	connection->state = state;
	connection->had = 0;
	connection->wanted = wanted;
	if (check((int)send(connection->fd, bytes, length, 0), "send") != (int)length)
		fail("a short message was not taken whole");
}

static void exchange(struct connection *connection)
{
	ask(connection, EXCHANGING, message, message_bytes, answer_bytes);
}

/*
 * Reads what is there; true when the answer is whole. The proxy's answers are kept from the start of `bytes`; those of
 * an exchange are only counted.
 */
static bool answered(struct connection *connection, uint8_t bytes[READ_BYTES])
{
	size_t at = connection->state == EXCHANGING ? 0 : connection->had;
	size_t room = connection->wanted - connection->had;
	int got = (int)recv(connection->fd, bytes + at, room < READ_BYTES - at ? room : READ_BYTES - at, 0);

	if (got < 0 && errno == EAGAIN)
		return false;
	if (check(got, "recv") == 0)
		fail("the connection ended in state %d", connection->state);
	connection->had += (size_t)got;
	return connection->had == connection->wanted;
}

/* One step; true when the message has been answered. */
static bool advance(struct connection *connection)
{
	static uint8_t bytes[READ_BYTES];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

	if (connection->state == CONNECTING) {
		int error = 0;
		socklen_t length = sizeof(error);

		check(getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length), "SO_ERROR");
		if (error != 0)
			fail("connect: %s", strerror(error));
		check(epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event), "epoll_ctl");
		if (run->socks)
			ask(connection, GREETING, "\x05\x01\x00", 3, 2);
		else
			exchange(connection);
		return false;
	}
	if (!answered(connection, bytes))
		return false;
	if (connection->state == GREETING) {
		uint8_t request[SOCKS_HEADER];

		socks_request(request, 1, endpoint(run->destination, port));
		ask(connection, REQUESTING, request, sizeof(request), SOCKS_HEADER);
		return false;
	}
	if (connection->state == REQUESTING) {
		if (connection->had > 1 && bytes[1] != 0 && connection->wanted == SOCKS_HEADER)
			fail("the proxy refused the connection: reply %d", bytes[1]);
		exchange(connection);
		return false;
	}
	return true;
}

static void prepare(const struct options *options, int to_port)
{
	static char echo[MESSAGE_BYTES];
	static char request[256];
	char head[HTTP_HEAD_BYTES];
	size_t body_bytes = (size_t)options->payload_bytes;

	run = options;
	port = to_port;
	poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	message = echo;
	answer_bytes = message_bytes = sizeof(echo);
	if (to_port == PORT_HTTP) {
		message = request;
		message_bytes = (size_t)sprintf(request, HTTP_REQUEST, options->payload_bytes);
		answer_bytes = http_head(head, body_bytes) + body_bytes;
	}
}

static struct connection *begin_all(int count)
{
	struct connection *connections = calloc((size_t)count, sizeof(*connections));

	if (!connections)
		fail("out of memory");
	for (int index = 0; index < count; index++)
		begin(&connections[index]);
	return connections;
}

static int by_size(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left;
	uint32_t b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static int wait_events(struct epoll_event events[64])
{
	int count = check(epoll_wait(poller, events, 64, STALL_MS), "epoll_wait");

	if (count == 0)
		fail("nothing was answered for %d s", STALL_MS / 1000);
	return count;
}

/* Closed loop of connect, echo and close, or (with `keep`) of exchanges on connections that stay. */
static void closed_loop(bool keep)
{
	struct connection *connections = begin_all(run->parallel);
	uint64_t start = now_ns();
	uint64_t end = start + (uint64_t)run->milliseconds * 1000000u;
	size_t capacity = 1 << 16;
	size_t count = 0;
	uint32_t *latencies = malloc(capacity * sizeof(*latencies));
	struct epoll_event events[64];
	uint64_t now;

	do {
		int ready = wait_events(events);

		for (int index = 0; index < ready; index++) {
			struct connection *connection = events[index].data.ptr;

			if (!advance(connection))
				continue;
			if (count == capacity)
				latencies = realloc(latencies, (capacity *= 2) * sizeof(*latencies));
			if (!latencies)
				fail("out of memory");
			now = now_ns();
			latencies[count++] = (uint32_t)((now - connection->start_ns) / 100);
			connection->start_ns = now;
			if (keep) {
				exchange(connection);
			} else {
				close(connection->fd);
				begin(connection);
			}
		}
		now = now_ns();
	} while (now < end);
	if (count == 0)
		fail("not one exchange in %d ms", run->milliseconds);
	qsort(latencies, count, sizeof(*latencies), by_size);
	printf("{\"count\":%zu,\"seconds\":%.6f,\"p50Us\":%.1f,\"p99Us\":%.1f}\n", count, (double)(now - start) / 1e9,
	       latencies[count / 2] / 10.0, latencies[count * 99 / 100] / 10.0);
	free(latencies);
	free(connections);
}

void run_connect(const struct options *options)
{
	prepare(options, PORT_ECHO);
	closed_loop(false);
}

void run_http(const struct options *options)
{
	prepare(options, PORT_HTTP);
	closed_loop(true);
}

/*
 * Opens `count` connections, at most `parallel` of them at once under way, and holds them until standard input ends. With
 * `milliseconds` each must then answer once more.
 */
void run_idle(const struct options *options)
{
	struct connection *connections = calloc((size_t)options->count, sizeof(*connections));
	struct epoll_event events[64];
	int begun = 0;
	char byte;

	if (!connections)
		fail("out of memory");
	prepare(options, PORT_ECHO);
	for (int done = 0; done < options->count;) {
		while (begun < options->count && begun - done < options->parallel)
			begin(&connections[begun++]);
		for (int ready = wait_events(events), index = 0; index < ready; index++)
			done += advance(events[index].data.ptr);
	}
	printf("{\"open\":%d}\n", options->count);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	for (int done = 0, asked = 0; options->milliseconds > 0 && done < options->count;) {
		while (asked < options->count && asked - done < options->parallel)
			exchange(&connections[asked++]);
		for (int ready = wait_events(events), index = 0; index < ready; index++)
			done += advance(events[index].data.ptr);
		if (done == options->count)
			printf("{\"open\":%d}\n", done);
	}
	free(connections);
}

/*
 * Tries every 2 ms until one echo is answered and prints the moment, in ns of CLOCK_MONOTONIC. A tun that nobody has
 * opened loses SYNs, so tries run side by side; those refused or lost are of no account.
 */
void run_first(const struct options *options)
{
	uint64_t end = now_ns() + (uint64_t)options->milliseconds * 1000000u;
	struct sockaddr_in to = endpoint(options->destination, PORT_ECHO);
	struct pollfd tries[256];
	bool asked[256] = { false };
	char bytes[MESSAGE_BYTES] = { 0 };

	for (size_t index = 0; index < 256; index++)
		tries[index] = (struct pollfd){ .fd = -1 };
	for (size_t turn = 0; now_ns() < end; turn = (turn + 1) % 256) {
		uint64_t next = now_ns() + 2000000u;

		if (tries[turn].fd >= 0)
			close(tries[turn].fd);
		tries[turn] = (struct pollfd){ .fd = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket"), .events = POLLOUT };
		asked[turn] = false;
		(void)connect(tries[turn].fd, (struct sockaddr *)&to, sizeof(to));
		while (now_ns() < next) {
			if (poll(tries, 256, 1) <= 0)
				continue;
			for (size_t index = 0; index < 256; index++) {
				if (tries[index].fd < 0 || tries[index].revents == 0)
					continue;
				if (asked[index] && recv(tries[index].fd, bytes, sizeof(bytes), 0) > 0) {
					printf("{\"atNs\":%llu}\n", (unsigned long long)now_ns());
					return;
				}
				if (!asked[index] && send(tries[index].fd, bytes, sizeof(bytes), 0) > 0) {
					asked[index] = true;
					tries[index].events = POLLIN;
					continue;
				}
				close(tries[index].fd);
				tries[index].fd = -1;
			}
		}
	}
	fail("no echo within %d ms", options->milliseconds);
}
