/*
 * The glue around lwIP, in the order in which a packet meets it:
 *
 *   ingress/   slots      where the host lets packets land      guard       is it a packet? for whom?
 *              extension  what stands before IPv6's transport   fragments   to the whole (reassembly), and back to the guard
 *              icmp       truthful errors                       rate        how many of them, and of other answers
 *   tcp/       tcp        flow found, lwIP fed, the end         open        SYN held and answered
 *              check      segments that lwIP would believe too easily
 *              out_of_order  segments before their time         receive     client → upstream bytes
 *              flows      which flow                            dials       whose dials there may be
 *              pcbs       lwIP's control blocks, in O(1)        isn         sequences that nobody guesses
 *              orphans    connections of an instance that stopped
 *   sender/    send       upstream → client bytes, in chunks    sender      chunks → segments
 *              arrivals   what has arrived of them              recovery    what was lost
 *              spans      what is in flight                     congestion  how much may be
 *   udp/       udp        datagrams, client → upstream          send        and back (source: in whose name)
 *   egress     packets to be written, as iovecs                 events      what the host must look at
 *   stack      one instance, its clock, its end                 abi         what the host reads
 *   hash       where names stand in tables                      checksum    of IP and its transports
 *   relief     who gives way when memory is out
 *
 * Two rules hold everywhere: this module never calls the host, and whatever the host reads lies in memory that
 * abi.c names. "client" is the program behind the tun, "destination" what it asked for (lwIP's local side).
 */
#ifndef TUNGATE_H
#define TUNGATE_H

#include <stddef.h>
#include <string.h>

#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
#include "sender/sender.h"

#define TG_EXPORT(name) __attribute__((export_name(#name)))

/* ---- bounds ---- */
#define TG_MAX_FLOWS 65536     /* table size; the host may set a lower limit */
#define TG_MAX_ENDPOINTS (65536 + 64) /* client UDP endpoints; the host may set a lower limit, plus one batch */
#define TG_MAX_KNOWN 4096      /* sources that have completed a connection */
#define TG_SLOTS 64            /* packets a batch */
#define TG_SLOT_BYTES (12 + 65535 + 5)
#define TG_DATAGRAMS 1024      /* from clients, a batch: a packet may carry many */
#define TG_LANDING_SLOTS 32    /* messages from an upstream, a batch */
#define TG_LANDED_SEGMENTS 64  /* datagrams that the kernel may merge into one message */
#define TG_EGRESS_PACKETS 8192
#define TG_EGRESS_IOVECS 32768
#define TG_TX_BUDGET (96u << 20) /* bytes from upstreams waiting for clients, all flows */
#define TG_TX_RESERVE (TG_TX_BUDGET / 8) /* of it, for flows that hold nothing */
#define TG_TX_FLOW_MAX (2u << 20)
#define TG_SMALL_BYTES 4096 /* chunks.c */
#define TG_LARGE_BYTES 65536
#define TG_RX_FLOW_FLOOR (64u << 10)
#define TG_OUT_OF_ORDER_BUDGET (32u << 20) /* memory of segments that wait for those before them, all flows */
#define TG_OUT_OF_ORDER_FLOW (2u << 20) /* the same, one flow: twice its window */
#define TG_SEED_BYTES 64 /* isn.c: 16, stack.c: 8, hash.c: 40 */
#define TG_IOVECS 64 /* scratch for one read or write of a flow */
#define TG_VNET_BYTES 12
/* In front of a datagram, for the upstream's own header: 262 bytes towards a name, and 22 through another relay. */
#define TG_HEADER_ROOM 288
#define TG_LANDING_BYTES 65536
#define TG_HURRY_MS 8 /* the grain of reordering timers */

struct tg_iovec {
  u32_t offset, length;
};

/* virtio_net_hdr_v1 (linux/virtio_net.h): the checksum is to be completed, or known to be good; how to cut. */
#define TG_VNET_NEEDS_CSUM 1
#define TG_VNET_DATA_VALID 2
#define TG_VNET_GSO_TCPV4 1
#define TG_VNET_GSO_TCPV6 4
#define TG_VNET_GSO_UDP_L4 5
#define TG_VNET_GSO_ECN 0x80
struct tg_vnet {
  u8_t flags, gso_type;
  u16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

/* ---- flows ---- */
enum tg_state { TG_FREE, TG_HELD, TG_OPENING, TG_OPEN, TG_GONE };

enum tg_event {
  TG_EV_SYN = 1,      /* a client asks: dial, then accept or refuse */
  TG_EV_OPEN = 2,     /* the client has acknowledged: reserve() may be called */
  TG_EV_DATA = 4,     /* bytes from the client: peek(), consume() */
  TG_EV_FIN = 8,      /* the client will send no more */
  TG_EV_ROOM = 16,    /* reserve() said 0 before and would not now */
  TG_EV_GONE = 32     /* the client's side is over; release() it. error says how */
};

enum tg_error {
  TG_ERR_NONE,        /* both sides said FIN and everything was acknowledged */
  TG_ERR_RESET,       /* RST from the client */
  TG_ERR_TIMEOUT,     /* the client does not answer any more */
  TG_ERR_ABORTED,     /* by the host */
  TG_ERR_MEMORY,
  TG_ERR_DISPLACED    /* by the dial of another client (dials.c) */
};

/* A place among the dials in flight (dials.c). */
enum tg_dial_kind { TG_DIAL_TCP, TG_DIAL_UDP };
struct tg_dial {
  u32_t source; /* 0: has none */
  u8_t kind, is_stranger;
  u64_t since_ms;
  struct tg_dial *prev, *next;
};

/* Bytes for a client, on their way (chunks.c). */
struct tg_chunk {
  struct tg_chunk *next;
  u32_t size;
  u32_t since_ms; /* when it was given, in the low 32 bits of the clock */
  u32_t room; /* how much of it is used for this flow's MSS */
  u32_t filled, written, acked;
};

struct tg_flow {
  /* read by the host */
  u32_t state, events, family, client_port, dest_port;
  u8_t client[16], dest[16];
  u32_t rx_bytes; /* from the client, not yet consumed */
  u32_t tx_bytes; /* for the client, not yet acknowledged */
  u32_t error;
  /* ours */
  struct tcp_pcb *pcb;
  struct pbuf *syn; /* held: the TCP header of the client's SYN */
  u32_t isn;
  struct pbuf *rx_head, *rx_tail;
  struct tg_chunk *tx_head, *tx_tail, *tx_reserved;
  u16_t peer_mss;
  u8_t queued, released, tx_waiting, unlinked, finishing, listed, appetite;
  u32_t tx_offered;
  u32_t hash, hash_next, free_next;
  struct tg_flow *list_prev, *list_next; /* pcbs.c */
  u64_t parked_ms;
  u32_t ack_bytes; /* received since the last acknowledgement */
  u32_t out_of_order; /* memory of segments before their time */
  u64_t challenged_ms; /* tcp/check.c; 0: never */
  u64_t opening_us; /* when the SYN-ACK left */
  struct tg_sender sender;
  struct tg_dial dial;
};

extern struct tg_flow tg_flows[TG_MAX_FLOWS];
struct tg_flow *tg_flow_find(const u8_t *client, u32_t client_port, const u8_t *dest, u32_t dest_port, u32_t family);
struct tg_flow *tg_flow_new(const u8_t *client, u32_t client_port, const u8_t *dest, u32_t dest_port, u32_t family);
/* Its names lead to it no more; the slot stays. */
void tg_flow_unlink(struct tg_flow *flow);
void tg_flow_free(struct tg_flow *flow);
/* All flows have numbers below it. */
u32_t tg_flows_end(void);
/* The flow cannot go on for want of memory: both sides are to be reset. */
void tg_out_of_memory(struct tg_flow *flow);

/* ---- hash.c ---- */
u32_t tg_hash(const u8_t *address, u32_t number, u32_t use);
u32_t tg_hash_pair(const u8_t *one, const u8_t *other, u64_t number);

/* ---- tcp.c, tcp/open.c ---- */
struct tg_quote;
void tg_syn(struct tg_flow *flow, struct pbuf *p, const struct tcp_hdr *header, const struct tg_quote *names);
void tg_syn_drop(struct tg_flow *flow);
void tg_flow_follow(struct tg_flow *flow, struct tcp_pcb *pcb);
/* lwIP's ext-arg callback. */
void tg_pcb_destroyed(u8_t id, void *data);
void tg_gone(struct tg_flow *flow, u32_t error);

/* ---- dials.c ---- */
int tg_dial_take(struct tg_dial *dial, u32_t kind, const u8_t *address, u32_t family);
void tg_dial_end(struct tg_dial *dial);
void tg_dial_proved(struct tg_dial *dial);
/* The flow of this place, which is not open yet, gives way. */
void tg_tcp_displace(struct tg_dial *dial);

/* ---- pcbs.c ---- */
enum tg_listed { TG_UNLISTED, TG_LIVE, TG_PARKED, TG_ENDING };
void tg_pcb_wake(struct tg_flow *flow);
void tg_pcb_lost(struct tg_flow *flow);
void tg_pcb_input(struct tg_flow *flow, struct pbuf *p, int is_cut);
void tg_acknowledge(struct tg_flow *flow);
void tg_pcbs_timers(void);
void tg_pcbs_senders(void);
int tg_time_wait_recycle(void);
int tg_pcbs_busy(void);

/* ---- chunks.c ---- */
struct tg_chunk *tg_chunk_new(u32_t size);
u8_t *tg_chunk_bytes(const struct tg_chunk *chunk);
void tg_chunk_free(struct tg_chunk *chunk);
void tg_chunk_unused(struct tg_chunk *chunk);
void tg_chunks_settle(void);
u32_t tg_send_used(void);
struct tg_rest {
  double seen, given;
};
int tg_rests(struct tg_rest *rest, double counter, int is_free);

/* ---- relief.c ---- */
u32_t tg_relieve(u32_t bytes, u32_t (*held)(const struct tg_flow *), void (*drop)(struct tg_flow *));

/* ---- tcp/check.c ---- */
int tg_tcp_options(u8_t *at, u32_t bytes, int synchronized);
int tg_tcp_acceptable(struct tg_flow *flow, struct pbuf *p, struct tcp_hdr *header);

/* ---- out_of_order.c ---- */
u32_t tg_out_of_order_held(void);
struct pbuf *tg_out_of_order(struct tg_flow *flow, struct pbuf *p);

/* ---- events.c ---- */
void tg_event(struct tg_flow *flow, u32_t bits);

/* ---- stack.c ---- */
extern struct netif tg_netif;
extern struct tg_config {
  u32_t mtu, vnet, uso, echo, max_flows, max_endpoints, keep_alive_ms;
} tg_config;
extern u64_t tg_now_ms, tg_now_us;
u32_t tg_memory_size(void);
/* The device's MTU counts for SYN, UDP and ICMP; TCP data may leave as super-segments (egress.c). */
void tg_mtu_device(void);
void tg_mtu_super(void);

/* ---- rate.c ---- */
#define TG_ICMP_PER_SECOND 1000 /* errors; as many echo replies; in a burst too */
struct tg_rate {
  u64_t since_ms;
  u32_t left;
};
/* 1 when one more is within `per_second`, of which a burst may have as many at once. */
int tg_rate_allows(struct tg_rate *rate, u32_t per_second);

/* ---- counters: doubles, so that the host reads them as numbers ---- */
#define TG_COUNTERS(X)                                                                                                 \
  X(packets_in) X(bytes_in) X(packets_out) X(bytes_out) X(drop_malformed) X(drop_checksum) X(drop_address)             \
  X(drop_option) X(drop_protocol) X(drop_icmp) X(drop_vnet) X(drop_fragment) X(drop_memory) X(drop_egress)             \
  X(drop_flow_limit) X(drop_sequence) X(drop_receive_budget) X(drop_out_of_order) X(challenge_acks) X(icmp_limited)    \
  X(syn_retransmitted) X(tcp_opened) X(tcp_retransmitted) X(tcp_retransmitted_bytes) X(tcp_timeouts) X(udp_in)         \
  X(dial_limit) X(dials_displaced) X(udp_out) X(udp_family) X(udp_forged) X(icmp_out)
struct tg_counters {
#define X(name) double name;
  TG_COUNTERS(X)
#undef X
};
extern struct tg_counters tg_counters;
#define TG_COUNT(name) (tg_counters.name += 1)

/* ---- ingress ---- */
void tg_slots_init(void);
u32_t tg_slots_unneeded(struct tg_iovec *into);
/* Read since a batch that left slots free: at least so many waited in the device. */
extern u32_t tg_packets_waited;
void tg_guard(struct pbuf *p, int vouched, u32_t segment);
/* What an IPv6 packet carries, put together; ip_data has its addresses. Eats p. */
void tg_guard6_whole(struct pbuf *p, u32_t next);
/* ---- extension.c ---- */
struct tg_chain {
  u32_t next, at;  /* a header, and where it begins */
  u32_t field;     /* where `next` was read */
  int complain;    /* the packet is as it came: where a mistake stands in it can be said */
};
int tg_extensions(const u8_t *bytes, u32_t total, struct tg_chain *chain);
void tg_parameter_problem(const u8_t *bytes, u32_t total, const struct tg_chain *chain, u32_t code, u32_t at);

/* ---- fragments.c, reassembly.c ---- */
struct tg_fragment_names { /* no padding: compared as bytes */
  u8_t client[16], dest[16];
  u32_t family, protocol, id;
};
struct tg_fragment {
  const u8_t *bytes; /* those from `start` to `end` of the whole */
  u32_t start, end;
  int more;
  u8_t next;
  const u8_t *head;
  u32_t head_bytes;
};
void tg_fragment4(struct pbuf *p, u32_t header_bytes);
void tg_fragment6(struct pbuf *p, const struct tg_chain *chain);
struct tg_reassembly;
struct tg_reassembly *tg_reassemble(const struct tg_fragment_names *names, const struct tg_fragment *fragment);
struct pbuf *tg_reassembled(struct tg_reassembly *datagram, u32_t room, u8_t *next);
void tg_fragments_tick(void);
u32_t tg_fragments_held(void);
int tg_fragments_busy(void);

/* p->payload at the transport header, ip_data filled. Each eats p. */
void tg_tcp_packet(struct pbuf *p, int vouched);
void tg_udp_packet(struct pbuf *p, int vouched, u32_t segment);
int tg_datagrams_almost_full(void);
u32_t tg_landing_unneeded(struct tg_iovec *into);
void tg_tcp_init(void);
void tg_udp_init(void);
void tg_udp_release(void);

/* ---- udp/send.c ---- */
void tg_udp_send_init(void);
/* The egress table is written: no datagram can join its last packet. */
void tg_udp_run_end(void);
int tg_source_forged(u32_t family, const u8_t *source, const u8_t *client); /* udp/source.c */

/* ---- a flow's two directions ---- */
void tg_receive(struct tg_flow *flow, struct pbuf *p);
void tg_receive_free(struct tg_flow *flow);
int tg_receive_over_budget(const struct tg_flow *flow);
void tg_acked(struct tg_flow *flow, u32_t bytes);
void tg_send_free(struct tg_flow *flow);
void tg_send_tick(void);
void tg_finish(struct tg_flow *flow);

/* ---- icmp.c: codes are those of tg_refuse ---- */
enum tg_answer {
  TG_ANSWER_RESET,
  TG_ANSWER_NET_UNREACHABLE,
  TG_ANSWER_HOST_UNREACHABLE,
  TG_ANSWER_PROHIBITED,
  TG_ANSWER_PORT_UNREACHABLE,
  TG_ANSWER_SILENCE
};
struct tg_quote {
  u32_t family, protocol;
  const u8_t *client, *dest;
  u32_t client_port, dest_port;
  u32_t sequence; /* TCP */
};
void tg_unreachable(const struct tg_quote *quote, u32_t answer);
/* ICMP errors about a packet whose addresses have been found good. `word`: the 32 bits behind the checksum. */
void tg_error4(u32_t type, u32_t code, const u8_t *packet, u32_t length);
void tg_error6(u32_t type, u32_t code, u32_t word, const u8_t *packet, u32_t length);
/* Another echo request may be answered; 0: it is counted. */
int tg_echo_allowed(void);

/* ---- egress.c ---- */
err_t tg_egress4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to);
err_t tg_egress6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to);
int tg_egress_pending(void);
int tg_egress_almost_full(void);
u8_t *tg_egress_new(u32_t header, const u8_t *payload, u32_t length);
int tg_egress_append(const u8_t *payload, u32_t length);
u8_t *tg_egress_head(u32_t row);
void tg_egress_partial(u32_t row, u32_t start, u32_t offset);
void tg_egress_segments(u32_t row, u32_t header, u32_t segment);
void tg_egress_super(u32_t row, u32_t family, u32_t header, u32_t segment);
/* The sum of a pseudo-header, not complemented; `length` is that of the transport's header and payload. */
u16_t tg_pseudo_sum(const u8_t *addresses, u32_t address_bytes, u32_t protocol, u32_t length);

/* ---- tables that the host reads or fills ---- */
struct tg_endpoint { /* a client's UDP address and port */
  u32_t family, port;
  u8_t address[16];
  u32_t used, hash_next, free_next;
  u32_t is_stranger; /* it was one when its first datagram came */
  struct tg_dial dial;
};

struct tg_datagram { /* from a client */
  u32_t endpoint, family, dest_port, length;
  u8_t dest[16];
  u32_t header; /* offset of TG_HEADER_ROOM bytes; the row's first iovec points there, its length is the host's to set */
  u32_t first_iovec;
};

struct tg_message { /* a row of the tables that sendDatagrams and writePackets take */
  u32_t first_iovec, iovecs;
  struct pbuf *p; /* NULL: nothing is to be freed */
};

struct tg_egress {
  u32_t packets, iovecs;
};

extern struct tg_iovec tg_iovecs[TG_IOVECS];
extern struct tg_iovec tg_slot_table[TG_SLOTS];
extern struct tg_endpoint tg_endpoints[TG_MAX_ENDPOINTS];
extern struct tg_datagram tg_datagrams[TG_DATAGRAMS];
extern struct tg_message tg_datagram_messages[TG_DATAGRAMS];
extern struct tg_iovec tg_datagram_iovecs[];
extern u32_t tg_datagram_count;
extern struct tg_iovec tg_landing_table[TG_LANDING_SLOTS];
extern struct tg_iovec tg_landed[TG_LANDING_SLOTS * TG_LANDED_SEGMENTS];
extern struct tg_message tg_egress_packets[TG_EGRESS_PACKETS];
extern struct tg_iovec tg_egress_iovecs[TG_EGRESS_IOVECS];
extern struct tg_egress tg_egress;
extern u32_t tg_event_bits;

/* ---- addresses: 16 bytes, of which IPv4 uses the first four ---- */
void tg_put_address(u8_t *to, const ip_addr_t *from);
void tg_ip_addr(ip_addr_t *to, const u8_t *from, u32_t family);

#endif
