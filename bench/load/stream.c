/* Blocking streams and what all files share. */
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	_exit(1);
}

int check(int result, const char *what)
{
	if (result < 0)
		fail("%s: %s", what, errno == EAGAIN ? "nothing moved for 10 s" : strerror(errno));
	return result;
}

struct sockaddr_in endpoint(struct in_addr address, int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = address, .sin_port = htons((uint16_t)port) };
}

void send_whole(int fd, const void *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t taken = send(fd, (const char *)bytes + done, length - done, 0);

		done += (size_t)check((int)taken, "send");
	}
}

void receive_whole(int fd, void *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t got = recv(fd, (char *)bytes + done, length - done, 0);

		if (check((int)got, "recv") == 0)
			fail("end of stream after %zu of %zu bytes", done, length);
		done += (size_t)got;
	}
}

void socks_request(uint8_t out[SOCKS_HEADER], int command, struct sockaddr_in to)
{
	out[0] = 5;
	out[1] = (uint8_t)command;
	out[2] = 0;
	out[3] = 1;
	memcpy(out + 4, &to.sin_addr, 4);
	memcpy(out + 8, &to.sin_port, 2);
}

static int open_tcp(struct sockaddr_in to)
{
	int fd = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	struct timeval limit = { .tv_sec = 10 };

	check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), "SO_RCVTIMEO");
	check(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), "SO_SNDTIMEO");
	check(connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
	check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), "TCP_NODELAY");
	return fd;
}

int open_proxy(const struct options *options)
{
	int fd = open_tcp(options->proxy);
	uint8_t answer[2];

	send_whole(fd, "\x05\x01\x00", 3);
	receive_whole(fd, answer, 2);
	if (answer[0] != 5 || answer[1] != 0)
		fail("the proxy refused the greeting: %d %d", answer[0], answer[1]);
	return fd;
}

int open_stream(const struct options *options, int port)
{
	struct sockaddr_in to = endpoint(options->destination, port);
	uint8_t message[SOCKS_HEADER];
	int fd;

	if (!options->socks)
		return open_tcp(to);
	fd = open_proxy(options);
	socks_request(message, 1, to);
	send_whole(fd, message, sizeof(message));
	receive_whole(fd, message, sizeof(message));
	if (message[1] != 0)
		fail("the proxy refused the connection: reply %d", message[1]);
	return fd;
}

int listen_on(int port)
{
	struct sockaddr_in at = endpoint((struct in_addr){ htonl(INADDR_ANY) }, port);
	int fd = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");

	check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)), "SO_REUSEADDR");
	check(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int)), "SO_REUSEPORT");
	check(bind(fd, (struct sockaddr *)&at, sizeof(at)), "bind");
	check(listen(fd, 4096), "listen");
	return fd;
}

void start_thread(void *(*run)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 4 * 1024 * 1024);
	if (pthread_create(&thread, &attributes, run, argument) != 0)
		fail("no thread could be started");
	pthread_attr_destroy(&attributes);
}
