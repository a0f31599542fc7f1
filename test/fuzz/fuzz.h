/*
 * What the fuzz targets share: the stack with a host around it that keeps the contract of tungate.h, clients that keep
 * their numbers, and packets with right checksums.
 *
 * Every byte of a TCP stream is a function of its sequence number, in both directions, so what leaves the stack and what
 * the host reads from it can be judged without a memory of what was sent.
 */
#ifndef TG_FUZZ_H
#define TG_FUZZ_H

#include <stddef.h>

#include "tungate.h"

/* A property that does not hold is a finding, like a sanitizer's. */
#define REQUIRE(condition, message)                                                                                    \
  do {                                                                                                                 \
    if (!(condition)) fuzz_fail(__FILE__, __LINE__, message);                                                          \
  } while (0)
_Noreturn void fuzz_fail(const char *file, int line, const char *message);

#define FUZZ_FLOWS 16
#define FUZZ_ENDPOINTS 16
#define FUZZ_CLIENTS 8

/* ---- input ---- */
struct input {
  const u8_t *at;
  size_t left;
};
u8_t take8(struct input *input);
u16_t take16(struct input *input);
u32_t take32(struct input *input);
/* At most `bytes` of what is left; how many. */
u32_t take(struct input *input, const u8_t **at, u32_t bytes);

/* ---- allocator.c ---- */
extern size_t fuzz_blocks;
/* The next `skip` allocations work, `count` behind them do not. */
void fuzz_allocations_fail(u32_t skip, u32_t count);

/* ---- packet.c ---- */
struct names {
  u32_t family, client_port, dest_port;
  u8_t client[16], dest[16];
};
struct segment {
  u32_t sequence, acknowledgement;
  u8_t flags;
  u16_t window, urgent;
  const u8_t *options;
  u32_t option_bytes; /* a multiple of 4, at most 40 */
  u32_t payload;      /* bytes, each by its sequence number */
};
/* The bytes of every stream, from `sequence` on. */
void stream_put(u8_t *at, u32_t sequence, u32_t bytes);
int stream_is(const u8_t *at, u32_t sequence, u32_t bytes);
/* Each writes a whole packet and returns its bytes. */
u32_t put_segment(u8_t *at, const struct names *names, const struct segment *segment);
u32_t put_datagram(u8_t *at, const struct names *names, u32_t payload, u8_t first);
u32_t put_ip(u8_t *at, const struct names *names, u32_t protocol, u32_t payload, u16_t id, u16_t fragment);
/* Makes right every checksum that can be found. */
void mend_checksums(u8_t *packet, u32_t bytes);

/* ---- egress_check.c ---- */
/* A packet that leaves, with its vnet header where there is one: fails when the kernel or a client would not take it. */
void check_egress(const u8_t *raw, u32_t bytes);

/* ---- world.c ---- */
struct world {
  int auto_accept, auto_finish, auto_release, hold_egress, no_up_check;
  struct host_flow {
    u8_t known, opened, finished;
    u32_t up, down; /* sequence numbers of the next byte from and to the client */
    u32_t read_limit;
  } flows[FUZZ_FLOWS];
  struct client {
    struct names names;
    u32_t isn, sequence, acknowledgement;
    u16_t window;
    u8_t answered;
  } clients[FUZZ_CLIENTS];
};
extern struct world world;

/* `choice`: which device this is (vnet_hdr, UDP super-packets, MTU), echo, keep-alive, what the host does by itself. */
void world_begin(u16_t choice);
/* All is closed; fails when anything is left in the stack, or when it serves no new connection. */
void world_end(void);
/* A packet into the next batch, with the vnet header in front where the device has one (NULL: zeros). */
void world_put(const u8_t *packet, u32_t bytes, const u8_t *vnet);
void world_batch(void);
void world_flush(void);
void world_tick(u32_t ms);
void world_jump(u32_t ms);
void world_read(u32_t id, u32_t limit);
/* Sends at most `bytes` to the client of a flow; how many. */
u32_t world_write(u32_t id, u32_t bytes);
void world_release(u32_t id);
void world_trim(void);
u32_t world_udp_send(u32_t endpoint, u32_t family, const u8_t *source, u32_t port, u32_t bytes);
struct tg_flow *world_flow(const struct client *client);

/* ---- what the glue exports, for who is linked with it ---- */
void tg_init(u32_t, u32_t, u32_t, u32_t, u32_t, u32_t, u32_t);
u8_t *tg_seed(void);
void tg_set_now(double);
u32_t tg_tick(double);
u32_t tg_prepare(void);
u32_t tg_ingress(u32_t, u32_t);
void tg_egress_done(void);
s32_t tg_next_event(void);
void tg_tcp_accept(u32_t);
void tg_tcp_refuse(u32_t, u32_t);
u32_t tg_tcp_peek(u32_t);
void tg_tcp_consume(u32_t, u32_t);
u32_t tg_tcp_reserve(u32_t);
void tg_tcp_commit(u32_t, u32_t);
void tg_tcp_finish(u32_t);
void tg_tcp_abort(u32_t);
void tg_tcp_release(u32_t);
u32_t tg_udp_send(u32_t, u32_t, const u8_t *, u32_t, u8_t *, u32_t);
void tg_udp_refuse(u32_t, const u8_t *, u32_t, u32_t);
void tg_udp_forget(u32_t);
u32_t tg_flows_used(void);
u32_t tg_endpoints_used(void);
u32_t tg_pcbs(void);
u32_t tg_receive_held(void);
u32_t tg_trim(void);
extern const char *tg_trap_message;

/* Every target. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#endif
