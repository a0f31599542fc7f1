/* Floods with invented sources: raw packets, `count` of them spread over `milliseconds`. Needs CAP_NET_RAW. */
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "load.h"

#define BATCH 64
#define PAYLOAD_BYTES 32
#define CATCH_UP_NS 25000000u
#define PAUSE_NS 1000000

struct packet {
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct {
			struct udphdr head;
			uint8_t payload[PAYLOAD_BYTES];
		} udp;
	};
};

static uint64_t random_state;

/* xorshift64 (Marsaglia 2003). */
static uint32_t random_word(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32);
}

/* RFC 1071, over the pseudo-header too. */
static uint16_t sum_of(const struct iphdr *ip, const void *transport, size_t length)
{
	const uint16_t *words = transport;
	const uint16_t *addresses = (const uint16_t *)(const void *)&ip->saddr;
	uint32_t sum = htons(ip->protocol) + htons((uint16_t)length);

	for (size_t index = 0; index < 4; index++)
		sum += addresses[index];
	for (size_t index = 0; index < length / 2; index++)
		sum += words[index];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* A source of 20.0.0.0 to 83.255.255.255: in no network of a test. The kernel fills in length, id and header checksum. */
static size_t invent(struct packet *packet, struct in_addr destination, int protocol)
{
	size_t length = protocol == IPPROTO_TCP ? sizeof(packet->tcp) : sizeof(packet->udp);
	uint16_t port = htons((uint16_t)(1024 + random_word() % 64000));

	memset(packet, 0, sizeof(*packet));
	packet->ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = (uint8_t)protocol };
	packet->ip.saddr = htonl((20u + random_word() % 64u) << 24 | (random_word() & 0xffffffu));
	packet->ip.daddr = destination.s_addr;
	if (protocol == IPPROTO_TCP) {
		packet->tcp.source = port;
		packet->tcp.dest = htons(PORT_ECHO);
		packet->tcp.seq = random_word();
		packet->tcp.doff = 5;
		packet->tcp.syn = 1;
		packet->tcp.window = htons(65535);
		packet->tcp.check = sum_of(&packet->ip, &packet->tcp, length);
	} else {
		packet->udp.head.source = port;
		packet->udp.head.dest = htons(PORT_UDP_ECHO);
		packet->udp.head.len = htons((uint16_t)length);
		packet->udp.head.check = sum_of(&packet->ip, &packet->udp, length);
	}
	return sizeof(packet->ip) + length;
}

static double seconds_of(struct timeval time)
{
	return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void flood(const struct options *options, int protocol)
{
	int fd = check(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), "raw socket");
	struct sockaddr_in to = endpoint(options->destination, 0);
	static struct packet packets[BATCH];
	struct iovec vectors[BATCH];
	struct mmsghdr messages[BATCH];
	uint64_t start = now_ns();
	uint64_t paced = start;
	uint64_t length_ns = (uint64_t)options->milliseconds * 1000000u;
	uint64_t total = (uint64_t)options->count;
	uint64_t sent = 0;
	struct rusage used;

	random_state = start | 1;
	for (int index = 0; index < BATCH; index++)
		messages[index].msg_hdr = (struct msghdr){ .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &vectors[index], .msg_iovlen = 1 };
	while (sent < total) {
		uint64_t due = total * (now_ns() - paced) / length_ns;
		unsigned int count;

		if (due > sent + total * CATCH_UP_NS / length_ns) { /* a flood that was kept waiting is no burst afterwards */
			paced = now_ns() - sent * length_ns / total;
			due = sent;
		}
		if (due > total)
			due = total;
		count = due > sent + BATCH ? BATCH : due > sent ? (unsigned int)(due - sent) : 0;
		for (unsigned int index = 0; index < count; index++)
			vectors[index] = (struct iovec){ &packets[index], invent(&packets[index], options->destination, protocol) };
		if (count > 0)
			sent += (uint64_t)check(sendmmsg(fd, messages, count, 0), "sendmmsg");
		else
			nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
	}
	getrusage(RUSAGE_SELF, &used);
	printf("{\"sent\":%llu,\"seconds\":%.3f,\"cpu_seconds\":%.3f}\n", (unsigned long long)sent, (double)(now_ns() - start) / 1e9,
	       seconds_of(used.ru_utime) + seconds_of(used.ru_stime));
}

void run_flood_syn(const struct options *options)
{
	flood(options, IPPROTO_TCP);
}

void run_flood_udp(const struct options *options)
{
	flood(options, IPPROTO_UDP);
}
