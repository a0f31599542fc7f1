/*
 * The load of the benchmarks: clients that reach a destination either straight (through whatever the routes say) or by
 * speaking SOCKS5 themselves, and the servers that answer them. IPv4 only. Each client prints one line of JSON on
 * standard output; each failure ends the program with one line on standard error and exit 1, so that no run is half
 * counted.
 */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Ports of `load serve`. */
#define PORT_ECHO 7001
#define PORT_SINK 7002
#define PORT_SOURCE 7003
#define PORT_HTTP 7004
#define PORT_UDP_ECHO 7005
#define PORT_UDP_SINK 7006
#define PORT_UDP_SOURCE 7007
#define PORT_UDP_COUNT 7008

#define BULK_BYTES (128 * 1024)
#define HTTP_HEAD_BYTES 160
#define SOCKS_HEADER 10
#define MAX_ADDRESSES 32

/* What the command line says; zero where it says nothing. */
struct options {
	struct in_addr destination;
	struct in_addr addresses[MAX_ADDRESSES];
	int address_count;
	bool socks;
	struct sockaddr_in proxy;
	struct in_addr control;
	int parallel;
	int count;
	int milliseconds;
	/* Of a datagram, a write or an answer; 0 is what the run does by default. */
	int payload_bytes;
	/* Of UDP bulk; how many a second of paced runs. */
	double megabits;
	const char *device;
};

uint64_t now_ns(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Fails with `what` and errno's text if `result` is negative; else returns it. */
int check(int result, const char *what);
struct sockaddr_in endpoint(struct in_addr address, int port);
/* Blocking TCP connection to destination:port, by SOCKS5 if so asked; sends and receives give up after 10 s. */
int open_stream(const struct options *options, int port);
/* Blocking TCP connection to the proxy, greeted. */
int open_proxy(const struct options *options);
/* Writes the 10 bytes of a SOCKS5 request (RFC 1928 section 4); `command` 1 CONNECT, 3 UDP ASSOCIATE. */
void socks_request(uint8_t out[SOCKS_HEADER], int command, struct sockaddr_in to);
void send_whole(int fd, const void *bytes, size_t length);
void receive_whole(int fd, void *bytes, size_t length);
int listen_on(int port);
/* Head of the HTTP answer to a request for `body_bytes`; 204 for none. Returns its length. */
size_t http_head(char out[HTTP_HEAD_BYTES], size_t body_bytes);
/* Starts a detached thread; its stack of 4 MB also holds the thread-local buffers. */
void start_thread(void *(*run)(void *), void *argument);

/* Payload of the UDP bulk runs. The source reads all of it as its order; the sink counts by `run`. */
struct bulk_datagram {
	uint32_t run;
	uint32_t milliseconds;
	uint32_t payload_bytes;
	uint32_t megabits;
};
/* Sends datagrams of `order` at its rate until its time is over; returns how many the kernel took. */
uint64_t send_paced(int fd, const struct sockaddr_in *to, const uint8_t *header, size_t header_bytes,
                    struct bulk_datagram order);

void run_upload(const struct options *options);
void run_download(const struct options *options);
void run_connect(const struct options *options);
void run_idle(const struct options *options);
void run_http(const struct options *options);
void run_first(const struct options *options);
void run_cut(const struct options *options);
void run_merge(const struct options *options);
void run_udp_echo(const struct options *options);
void run_udp_up(const struct options *options);
void run_udp_down(const struct options *options);
void run_paced_connect(const struct options *options);
void run_paced_dns(const struct options *options);
void run_udp_held(const struct options *options);
void run_flood_syn(const struct options *options);
void run_flood_udp(const struct options *options);
void run_servers(const struct options *options);
void run_udp_servers(const struct options *options);
void run_socks_server(const struct options *options);

#endif
