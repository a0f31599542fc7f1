/* The destinations: echo and HTTP from one epoll thread each, bulk with a thread per stream. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <poll.h>
#include <unistd.h>

#include "load.h"

#define MAX_BODY_BYTES (1024 * 1024)

struct listener {
	int fd;
	int port;
};

static int accept_next(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), "TCP_NODELAY");
	else if (errno != EAGAIN && errno != ECONNABORTED)
		fail("accept: %s", strerror(errno));
	return fd;
}

size_t http_head(char out[HTTP_HEAD_BYTES], size_t body_bytes)
{
	if (body_bytes == 0)
		return (size_t)sprintf(out, "HTTP/1.1 204 No Content\r\nServer: load\r\nContent-Type: text/plain\r\n\r\n");
	return (size_t)sprintf(out, "HTTP/1.1 200 OK\r\nServer: load\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
	                       body_bytes);
}

/* Head and body in one write; `request` asks for `/BYTES`. A slow client holds up the others, as it is the same one. */
static bool answer_http(int fd, const char *request)
{
	static char body[MAX_BODY_BYTES];
	char head[HTTP_HEAD_BYTES];
	size_t body_bytes = strncmp(request, "GET /", 5) == 0 ? strtoul(request + 5, NULL, 10) : 0;
	struct iovec parts[2];
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t sent;

	if (body_bytes > sizeof(body))
		return false;
	parts[0] = (struct iovec){ head, http_head(head, body_bytes) };
	parts[1] = (struct iovec){ body, body_bytes };
	sent = sendmsg(fd, &message, MSG_WAITALL);
	return sent == (ssize_t)(parts[0].iov_len + body_bytes);
}

/* Each request comes in one piece, for the client writes it in one call and waits for the answer. */
static bool answer(int fd, int port)
{
	char bytes[4096];
	ssize_t got = recv(fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return true;
	if (got <= 0)
		return false;
	if (port == PORT_ECHO)
		return send(fd, bytes, (size_t)got, 0) == got;
	bytes[got] = 0;
	if (got < 4 || memcmp(bytes + got - 4, "\r\n\r\n", 4) != 0)
		return true;
	return answer_http(fd, bytes);
}

static void *serve_short(void *argument)
{
	struct listener listener = *(struct listener *)argument;
	int poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener.fd };
	struct epoll_event events[64];

	check(epoll_ctl(poller, EPOLL_CTL_ADD, listener.fd, &event), "epoll_ctl");
	for (;;) {
		int ready = check(epoll_wait(poller, events, 64, -1), "epoll_wait");

		for (int index = 0; index < ready; index++) {
			int fd = events[index].data.fd;

			if (fd != listener.fd) {
				if (!answer(fd, listener.port))
					close(fd);
				continue;
			}
			while ((fd = accept_next(listener.fd)) >= 0) {
				event.data.fd = fd;
				check(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
			}
		}
	}
	return NULL;
}

static void *sink(void *argument)
{
	int fd = (int)(intptr_t)argument;
	char *buffer = malloc(BULK_BYTES);
	uint64_t total = 0;
	ssize_t got = -1;

	while (buffer && (got = recv(fd, buffer, BULK_BYTES, 0)) > 0)
		total += (uint64_t)got;
	if (got == 0)
		(void)send(fd, &total, sizeof(total), 0);
	close(fd);
	free(buffer);
	return NULL;
}

static void *source(void *argument)
{
	static const char bytes[BULK_BYTES];
	int fd = (int)(intptr_t)argument;
	uint32_t milliseconds;
	uint64_t total = 0;
	uint64_t end;
	ssize_t taken = 0;

	if (recv(fd, &milliseconds, sizeof(milliseconds), MSG_WAITALL) == sizeof(milliseconds)) {
		end = now_ns() + (uint64_t)milliseconds * 1000000u;
		while (now_ns() < end && (taken = send(fd, bytes, sizeof(bytes), 0)) >= 0)
			total += (uint64_t)taken;
		if (taken >= 0)
			(void)send(fd, &total, sizeof(total), 0);
	}
	close(fd);
	return NULL;
}

static void *serve_bulk(void *argument)
{
	struct listener listener = *(struct listener *)argument;
	struct pollfd ready = { .fd = listener.fd, .events = POLLIN };

	for (;;) {
		int fd;

		check(poll(&ready, 1, -1), "poll");
		while ((fd = accept_next(listener.fd)) >= 0)
			start_thread(listener.port == PORT_SINK ? sink : source, (void *)(intptr_t)fd);
	}
	return NULL;
}

void run_servers(const struct options *options)
{
	static struct listener listeners[4] = { { .port = PORT_ECHO }, { .port = PORT_HTTP }, { .port = PORT_SINK }, { .port = PORT_SOURCE } };

	for (int index = 0; index < 4; index++) {
		listeners[index].fd = listen_on(listeners[index].port);
		start_thread(index < 2 ? serve_short : serve_bulk, &listeners[index]);
	}
	run_udp_servers(options);
}
