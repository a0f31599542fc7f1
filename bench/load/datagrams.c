/* UDP from the client's side: echo from many sockets, and one flow at a given rate. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load.h"

#define LOST_NS 250000000u
#define QUIET_MS 250

/* A connected UDP socket, with the SOCKS5 UDP header to write before each payload (RFC 1928 section 7). */
struct flow {
	int fd;
	uint8_t header[SOCKS_HEADER];
	size_t header_bytes;
	uint32_t sequence;
	uint64_t sent_ns;
};

static void open_flow(const struct options *options, struct flow *flow, int port)
{
	struct sockaddr_in to = endpoint(options->destination, port);

	*flow = (struct flow){ .fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket") };
	(void)setsockopt(flow->fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ 4 << 20 }, sizeof(int));
	if (options->socks) {
		int control = open_proxy(options);
		uint8_t message[SOCKS_HEADER];
		struct sockaddr_in relay = options->proxy;

		socks_request(flow->header, 0, to);
		flow->header[0] = 0;
		flow->header_bytes = SOCKS_HEADER;
		socks_request(message, 3, endpoint((struct in_addr){ 0 }, 0));
		send_whole(control, message, sizeof(message));
		receive_whole(control, message, sizeof(message));
		if (message[1] != 0 || message[3] != 1)
			fail("the proxy refused UDP: reply %d", message[1]);
		if (memcmp(message + 4, "\0\0\0\0", 4) != 0)
			memcpy(&relay.sin_addr, message + 4, 4);
		memcpy(&relay.sin_port, message + 8, 2);
		to = relay;
	}
	check(connect(flow->fd, (struct sockaddr *)&to, sizeof(to)), "connect");
}

static void send_echo(struct flow *flow, int payload_bytes)
{
	uint8_t bytes[SOCKS_HEADER + 65536];
	size_t length = flow->header_bytes + (size_t)payload_bytes;

	memcpy(bytes, flow->header, flow->header_bytes);
	memset(bytes + flow->header_bytes, 0, (size_t)payload_bytes);
	flow->sequence++;
	memcpy(bytes + flow->header_bytes, &flow->sequence, sizeof(flow->sequence));
	flow->sent_ns = now_ns();
	if (send(flow->fd, bytes, length, 0) < 0 && errno != EAGAIN && errno != ENOBUFS)
		fail("send: %s", strerror(errno));
}

/* True if the answer to the last question is there; older and foreign ones are thrown away. */
static bool take_echo(struct flow *flow, int payload_bytes)
{
	uint8_t bytes[SOCKS_HEADER + 65536];
	ssize_t got;

	while ((got = recv(flow->fd, bytes, sizeof(bytes), 0)) >= 0)
		if (got == (ssize_t)flow->header_bytes + payload_bytes &&
		    memcmp(bytes + flow->header_bytes, &flow->sequence, sizeof(flow->sequence)) == 0)
			return true;
	if (errno != EAGAIN)
		fail("recv: %s", strerror(errno));
	return false;
}

void run_udp_echo(const struct options *options)
{
	struct flow *flows = calloc((size_t)options->parallel, sizeof(*flows));
	int poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	struct epoll_event events[64];
	uint64_t exchanges = 0;
	uint64_t lost = 0;
	uint64_t start;
	uint64_t swept;
	uint64_t now;

	if (!flows || options->payload_bytes < 4)
		fail("an echo needs at least 4 bytes");
	for (int index = 0; index < options->parallel; index++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &flows[index] };

		open_flow(options, &flows[index], PORT_UDP_ECHO);
		check(epoll_ctl(poller, EPOLL_CTL_ADD, flows[index].fd, &event), "epoll_ctl");
	}
	now = start = swept = now_ns();
	for (int index = 0; index < options->parallel; index++)
		send_echo(&flows[index], options->payload_bytes);
	while (now < start + (uint64_t)options->milliseconds * 1000000u) {
		int ready = check(epoll_wait(poller, events, 64, 50), "epoll_wait");

		for (int index = 0; index < ready; index++) {
			if (!take_echo(events[index].data.ptr, options->payload_bytes))
				continue;
			exchanges++;
			send_echo(events[index].data.ptr, options->payload_bytes);
		}
		now = now_ns();
		if (now - swept < LOST_NS / 4)
			continue;
		swept = now;
		for (int index = 0; index < options->parallel; index++) {
			if (now - flows[index].sent_ns > LOST_NS) {
				lost++;
				send_echo(&flows[index], options->payload_bytes);
			}
		}
	}
	if (exchanges == 0)
		fail("not one datagram was answered");
	printf("{\"count\":%llu,\"lost\":%llu,\"seconds\":%.6f}\n", (unsigned long long)exchanges,
	       (unsigned long long)lost, (double)(now - start) / 1e9);
	free(flows);
}

/* Asks the servers, beside the way that is measured, how many datagrams of a run the sink got or the source sent. */
static uint64_t counted(const struct options *options, uint32_t number)
{
	struct options beside = { .destination = options->control };
	int fd = open_stream(&beside, PORT_UDP_COUNT);
	uint64_t count;

	send_whole(fd, &number, sizeof(number));
	receive_whole(fd, &count, sizeof(count));
	close(fd);
	return count;
}

static struct bulk_datagram order_of(const struct options *options)
{
	return (struct bulk_datagram){
		.run = (uint32_t)(now_ns() / 1000u),
		.milliseconds = (uint32_t)options->milliseconds,
		.payload_bytes = (uint32_t)options->payload_bytes,
		.megabits = (uint32_t)options->megabits,
	};
}

static void report(uint64_t sent, uint64_t received, const struct options *options)
{
	printf("{\"sent\":%llu,\"received\":%llu,\"bytes\":%llu,\"seconds\":%.3f}\n", (unsigned long long)sent,
	       (unsigned long long)received, (unsigned long long)(received * (uint64_t)options->payload_bytes),
	       options->milliseconds / 1e3);
}

void run_udp_up(const struct options *options)
{
	struct bulk_datagram order = order_of(options);
	struct flow flow;
	uint64_t sent;

	open_flow(options, &flow, PORT_UDP_SINK);
	sent = send_paced(flow.fd, NULL, flow.header, flow.header_bytes, order);
	(void)poll(NULL, 0, QUIET_MS);
	report(sent, counted(options, order.run), options);
}

void run_udp_down(const struct options *options)
{
	struct bulk_datagram order = order_of(options);
	uint8_t bytes[65536];
	struct flow flow;
	uint64_t received = 0;
	uint64_t end = now_ns() + ((uint64_t)options->milliseconds + 5000) * 1000000u;

	open_flow(options, &flow, PORT_UDP_SOURCE);
	memcpy(bytes, flow.header, flow.header_bytes);
	memcpy(bytes + flow.header_bytes, &order, sizeof(order));
	check((int)send(flow.fd, bytes, flow.header_bytes + sizeof(order), 0), "send");
	while (now_ns() < end) {
		struct pollfd ready = { .fd = flow.fd, .events = POLLIN };

		if (check(poll(&ready, 1, received ? QUIET_MS : 2000), "poll") == 0)
			break;
		while (recv(flow.fd, bytes, sizeof(bytes), 0) > 0)
			received++;
	}
	if (received == 0)
		fail("not one datagram arrived");
	report(counted(options, order.run), received, options);
}
