/*
 * Load at a rate that does not wait for answers: what is late stays late. Connections that are opened, used once and closed;
 * UDP sockets that stay; DNS questions, each from a socket of its own.
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
#define GIVE_UP_NS 10000000000u
#define ASK_AGAIN_NS 1000000000u
#define DNS_PORT 53

enum kind { STREAM, QUESTION, HELD };

/* Who waits for an answer. */
struct asker {
	int fd;
	enum kind kind;
	bool connected;
	uint16_t id;
	uint64_t start_ns;
	uint64_t asked_ns;
	struct asker *previous, *next;
};

static const struct options *run;
static int poller;
static struct asker *first_asker, *last_asker;
static size_t waiting, answered, failed, repeated;
static uint32_t *connect_us, *answer_us;
static size_t connects;

static void list(struct asker *asker)
{
	asker->next = NULL;
	asker->previous = last_asker;
	*(last_asker ? &last_asker->next : &first_asker) = asker;
	last_asker = asker;
	waiting++;
}

static void unlist(struct asker *asker)
{
	*(asker->previous ? &asker->previous->next : &first_asker) = asker->next;
	*(asker->next ? &asker->next->previous : &last_asker) = asker->previous;
	waiting--;
}

static uint32_t since(uint64_t start_ns)
{
	return (uint32_t)((now_ns() - start_ns) / 1000);
}

/* A question for the A record of `test.example`, RFC 1035 section 4.1. */
static void ask(struct asker *asker)
{
	static const char name[] = "\4test\7example\0\0\1\0\1";
	uint8_t bytes[MESSAGE_BYTES] = { (uint8_t)(asker->id >> 8), (uint8_t)asker->id, 1, 0, 0, 1 };
	size_t length = asker->kind == QUESTION ? 12 + sizeof(name) - 1 : sizeof(bytes);

	memcpy(bytes + 12, name, sizeof(name) - 1);
	asker->asked_ns = now_ns();
	if (send(asker->fd, bytes, length, 0) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED)
		failed++;
}

static void begin(struct asker *asker, enum kind kind, uint64_t due_ns)
{
	int type = kind == STREAM ? SOCK_STREAM : SOCK_DGRAM;
	int port = kind == STREAM ? PORT_ECHO : kind == QUESTION ? DNS_PORT : PORT_UDP_ECHO;
	struct sockaddr_in to = endpoint(run->destination, port);
	struct epoll_event event = { .events = kind == STREAM ? EPOLLOUT : EPOLLIN, .data.ptr = asker };

	if (!asker)
		fail("out of memory");
	if (kind == HELD && asker->connected) {
		asker->start_ns = due_ns;
		list(asker);
		ask(asker);
		return;
	}
	*asker = (struct asker){ .kind = kind, .id = (uint16_t)random(), .start_ns = due_ns, .connected = kind != STREAM };
	asker->fd = check(socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
	if (connect(asker->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		fail("connect: %s", strerror(errno));
	check(epoll_ctl(poller, EPOLL_CTL_ADD, asker->fd, &event), "epoll_ctl");
	list(asker);
	if (asker->connected)
		ask(asker);
}

static void end(struct asker *asker)
{
	unlist(asker);
	if (asker->kind == HELD)
		return;
	close(asker->fd);
	free(asker);
}

static void turn(struct asker *asker)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = asker };
	uint8_t bytes[2048];
	ssize_t got;

	if (!asker->connected) {
		int error = 0;
		socklen_t length = sizeof(error);

		check(getsockopt(asker->fd, SOL_SOCKET, SO_ERROR, &error, &length), "SO_ERROR");
		if (error != 0) {
			failed++;
			end(asker);
			return;
		}
		asker->connected = true;
		connect_us[connects++] = since(asker->start_ns);
		check(epoll_ctl(poller, EPOLL_CTL_MOD, asker->fd, &event), "epoll_ctl");
		ask(asker);
		return;
	}
	got = recv(asker->fd, bytes, sizeof(bytes), 0);
	if (got < 0 && (errno == EAGAIN || (errno == ECONNREFUSED && asker->kind != STREAM)))
		return;
	if (got < 2 || (got > 0 && (bytes[0] != asker->id >> 8 || bytes[1] != (asker->id & 255)))) {
		failed++;
		end(asker);
		return;
	}
	answer_us[answered++] = since(asker->start_ns);
	end(asker);
}

/* Datagrams are lost: who asked a second ago asks again, up to 10 s after it began. The list is by age, nearly. */
static void look_after_late(void)
{
	uint64_t now = now_ns();

	for (struct asker *asker = first_asker, *next; asker && now - asker->start_ns > ASK_AGAIN_NS; asker = next) {
		next = asker->next;
		if (now - asker->start_ns > GIVE_UP_NS) {
			failed++;
			end(asker);
		} else if (asker->kind != STREAM && now - asker->asked_ns > ASK_AGAIN_NS) {
			repeated++;
			ask(asker);
		}
	}
}

static int by_size(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left;
	uint32_t b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static double part(const uint32_t *us, size_t count, unsigned int percent)
{
	return count == 0 ? 0 : us[count * percent / 100 < count ? count * percent / 100 : count - 1] / 1000.0;
}

static void wait_for_events(int milliseconds)
{
	struct epoll_event events[256];
	int ready = check(epoll_wait(poller, events, 256, milliseconds), "epoll_wait");

	for (int index = 0; index < ready; index++)
		turn(events[index].data.ptr);
}

static void report(void)
{
	qsort(connect_us, connects, sizeof(*connect_us), by_size);
	qsort(answer_us, answered, sizeof(*answer_us), by_size);
	printf("{\"count\":%zu,\"failed\":%zu,\"repeated\":%zu,\"connectP50Ms\":%.3f,\"connectP99Ms\":%.3f,"
	       "\"answerP50Ms\":%.3f,\"answerP99Ms\":%.3f}\n",
	       answered, failed, repeated, part(connect_us, connects, 50), part(connect_us, connects, 99),
	       part(answer_us, answered, 50), part(answer_us, answered, 99));
	fflush(stdout);
	connects = answered = failed = repeated = 0;
}

static void prepare(const struct options *options, size_t count)
{
	run = options;
	poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	connect_us = calloc(count + 1, sizeof(*connect_us));
	answer_us = calloc(count + 1, sizeof(*answer_us));
	if (!connect_us || !answer_us)
		fail("out of memory");
	srandom((unsigned int)now_ns());
}

/* `count` of them, `rate` a second; then waits until each is answered or given up. */
static void pace(size_t count, double rate, enum kind kind, struct asker *held)
{
	uint64_t start = now_ns();

	for (size_t begun = 0; begun < count || waiting > 0;) {
		uint64_t due = start + (uint64_t)((double)begun * 1e9 / rate);
		uint64_t now = now_ns();

		while (begun < count && due <= now) {
			begin(held ? &held[begun] : malloc(sizeof(struct asker)), kind, due);
			due = start + (uint64_t)((double)++begun * 1e9 / rate);
		}
		wait_for_events(begun == count ? 50 : (int)((due - now) / 1000000u));
		look_after_late();
	}
}

static void run_paced(const struct options *options, enum kind kind)
{
	size_t count = (size_t)(options->megabits * options->milliseconds / 1000.0);

	prepare(options, count);
	pace(count, options->megabits, kind, NULL);
	report();
}

void run_paced_connect(const struct options *options)
{
	run_paced(options, STREAM);
}

void run_paced_dns(const struct options *options)
{
	run_paced(options, QUESTION);
}

/* `count` sockets, each answered once; when standard input ends, once more each. A line of JSON for both. */
void run_udp_held(const struct options *options)
{
	size_t count = (size_t)options->count;
	struct asker *held = calloc(count, sizeof(*held));
	char byte;

	if (!held)
		fail("out of memory");
	prepare(options, 2 * count);
	pace(count, options->megabits, HELD, held);
	report();
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	pace(count, options->megabits, HELD, held);
	report();
	free(held);
}
