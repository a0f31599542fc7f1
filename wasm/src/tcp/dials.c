/*
 * Bounds on dials in flight, of all and of each source, taken before the host hears of a packet: a flood of SYNs or datagrams is no flood
 * of dials, and what is refused here costs next to nothing.
 *
 *   known      its source has lately completed a connection, which nobody can who only invents his address
 *   stranger   any other; all of them have three quarters of the places at most, so that the known ones find some
 *
 * A connection keeps its place until the client has answered the SYN-ACK. Where strangers fill theirs, the oldest gives way to a new one;
 * so slowly that each had about a second. What strangers begin is limited by time, too: a proxy may be quick to refuse. And they begin
 * nothing where so many of them waited in the device that the host must have been kept from reading it: its queue is for all, what it
 * drops may be a known one's, and a dial costs a hundred times what it costs to read a packet.
 */
#include "tungate.h"

#define MAX_SOURCES (TG_MAX_FLOWS + TG_MAX_KNOWN)
#define BUCKETS (2 * MAX_SOURCES)
/* Strangers are displaced no younger, in ms: an answer of most proxies and clients has come by then. */
#define MIN_AGE_MS 500
/* Below so many a second a bound on what strangers begin would be felt by single clients. */
#define MIN_RATE 64
/* Packets that the host finds waiting, of the 4,000 that a device of ours queues; and the strangers refused among the later ones. */
#define BEHIND 512
#define BEHIND_REFUSED 64

struct source {
  u64_t address[2];
  u32_t family, dials;
  u32_t hash_next; /* number + 1; of a free one: the next free one */
  u32_t newer, older; /* known ones, by use; number + 1 */
  u8_t known;
};

/* Fills with time up to its burst. */
struct credit {
  double left, a_second, burst;
  u64_t at_ms;
};

static struct source sources[MAX_SOURCES];
static u32_t buckets[BUCKETS];
static u32_t free_head, fresh;
static u32_t newest, oldest, known_count;

static struct {
  u32_t all, per_source, strangers, strangers_of[2];
} limits = {UINT32_MAX, UINT32_MAX, UINT32_MAX, {UINT32_MAX, UINT32_MAX}};
static u32_t in_flight, strangers, strangers_of[2];
static struct credit begun[2], displaced;
static u32_t refused_behind;
/* Of strangers' connections, the oldest first. */
static struct tg_dial *first, *last;

/* ---- sources ---- */

static u32_t *bucket_of(const u8_t *address, u32_t family)
{
  return &buckets[tg_hash(address, family, 2) % BUCKETS];
}

static struct source *find(const u8_t *address, u32_t family)
{
  for (u32_t id = *bucket_of(address, family); id != 0; id = sources[id - 1].hash_next) {
    struct source *source = &sources[id - 1];
    u64_t theirs[2];
    memcpy(theirs, address, 16); /* a call of memcmp costs more than all the rest */
    if (source->address[0] == theirs[0] && source->address[1] == theirs[1] && source->family == family) return source;
  }
  return NULL;
}

static struct source *add(const u8_t *address, u32_t family)
{
  u32_t id = free_head;
  if (id != 0) free_head = sources[id - 1].hash_next;
  else if (fresh < MAX_SOURCES) id = ++fresh;
  else return NULL;
  u32_t *bucket = bucket_of(address, family);
  struct source *source = &sources[id - 1];
  *source = (struct source){.family = family, .hash_next = *bucket};
  memcpy(source->address, address, 16);
  *bucket = id;
  return source;
}

static void forget_unless_needed(struct source *source)
{
  if (source->known || source->dials > 0) return;
  u32_t id = (u32_t)(source - sources) + 1;
  u32_t *link = bucket_of((const u8_t *)source->address, source->family);
  while (*link != id) link = &sources[*link - 1].hash_next;
  *link = source->hash_next;
  source->hash_next = free_head;
  free_head = id;
}

static void unknow(struct source *source)
{
  *(source->newer != 0 ? &sources[source->newer - 1].older : &newest) = source->older;
  *(source->older != 0 ? &sources[source->older - 1].newer : &oldest) = source->newer;
  source->known = 0;
  known_count--;
}

/* The source is known, as the last of at most TG_MAX_KNOWN to be forgotten. */
static void know(struct source *source)
{
  u32_t id = (u32_t)(source - sources) + 1;
  if (newest == id) return;
  if (source->known) unknow(source);
  source->known = 1;
  source->newer = 0;
  source->older = newest;
  *(newest != 0 ? &sources[newest - 1].newer : &oldest) = id;
  newest = id;
  if (++known_count <= TG_MAX_KNOWN) return;
  struct source *longest_ago = &sources[oldest - 1];
  unknow(longest_ago);
  forget_unless_needed(longest_ago);
}

/* ---- places ---- */

static struct credit credit_of(double a_second, double burst)
{
  return (struct credit){burst, a_second, burst, tg_now_ms};
}

/* Takes one; 0 when there is none. */
static int spend(struct credit *credit)
{
  credit->left += (double)(tg_now_ms - credit->at_ms) * credit->a_second / 1000;
  credit->at_ms = tg_now_ms;
  if (credit->left > credit->burst) credit->left = credit->burst;
  if (credit->left < 1) return 0;
  credit->left -= 1;
  return 1;
}

/* At most so many dials in flight, of all and of one source. */
TG_EXPORT(tg_limit_dials) void tg_limit_dials(u32_t all, u32_t per_source)
{
  u32_t share = all - all / 4;
  limits.all = all;
  limits.per_source = per_source;
  limits.strangers = share;
  limits.strangers_of[TG_DIAL_TCP] = share - share / 4;
  limits.strangers_of[TG_DIAL_UDP] = (share + 1) / 2;
  begun[TG_DIAL_TCP] = credit_of(LWIP_MAX(all, MIN_RATE), LWIP_MAX(all, MIN_RATE));
  begun[TG_DIAL_UDP] = credit_of(LWIP_MAX(all / 2, MIN_RATE), LWIP_MAX(all / 2, MIN_RATE));
  u32_t connections = limits.strangers_of[TG_DIAL_TCP];
  displaced = credit_of(connections, LWIP_MAX(connections / 16, 1));
}

static void unlist(struct tg_dial *dial)
{
  *(dial->prev != NULL ? &dial->prev->next : &first) = dial->next;
  *(dial->next != NULL ? &dial->next->prev : &last) = dial->prev;
}

/* Many packets wait, and most are strangers'. A batch with room left ends that: nothing waits any more (tg_ingress). */
static int host_is_behind(void)
{
  if (tg_packets_waited < BEHIND) refused_behind = 0;
  return refused_behind >= BEHIND_REFUSED;
}

static int stranger_may(u32_t kind)
{
  if (limits.all == UINT32_MAX) return 1;
  if (host_is_behind()) {
    begun[kind].left = 0; /* a burst when it has caught up would put it behind again */
    begun[kind].at_ms = tg_now_ms;
    return 0;
  }
  int has_room = in_flight < limits.all && strangers < limits.strangers && strangers_of[kind] < limits.strangers_of[kind];
  if (has_room) return spend(&begun[kind]);
  if (kind != TG_DIAL_TCP || first == NULL || tg_now_ms - first->since_ms < MIN_AGE_MS) return 0;
  if (!spend(&displaced) || !spend(&begun[kind])) return 0;
  tg_tcp_displace(first);
  return 1;
}

static int known_may(void)
{
  if (in_flight < limits.all) return 1;
  if (first == NULL) return 0;
  tg_tcp_displace(first);
  return 1;
}

/* A place for a dial of this client; 0 when there is none. One that has a place keeps it. */
int tg_dial_take(struct tg_dial *dial, u32_t kind, const u8_t *address, u32_t family)
{
  if (dial->source != 0) return 1;
  struct source *source = find(address, family);
  int is_stranger = source == NULL || !source->known;
  if (source != NULL && source->dials >= limits.per_source) return 0;
  if (!(is_stranger ? stranger_may(kind) : known_may())) {
    refused_behind += (u32_t)is_stranger;
    return 0;
  }
  if (is_stranger) source = find(address, family); /* it may have given way to itself */
  if (source == NULL && (source = add(address, family)) == NULL) return 0;
  *dial = (struct tg_dial){
    .source = (u32_t)(source - sources) + 1, .kind = (u8_t)kind, .is_stranger = (u8_t)is_stranger, .since_ms = tg_now_ms};
  source->dials++;
  in_flight++;
  if (!is_stranger) return 1;
  strangers++;
  strangers_of[kind]++;
  if (kind != TG_DIAL_TCP) return 1;
  dial->prev = last;
  *(last != NULL ? &last->next : &first) = dial;
  last = dial;
  return 1;
}

/* Gives the place back. Idempotent. */
void tg_dial_end(struct tg_dial *dial)
{
  if (dial->source == 0) return;
  struct source *source = &sources[dial->source - 1];
  dial->source = 0;
  source->dials--;
  in_flight--;
  forget_unless_needed(source);
  if (!dial->is_stranger) return;
  strangers--;
  strangers_of[dial->kind]--;
  if (dial->kind == TG_DIAL_TCP) unlist(dial);
}

/* The client has answered, so its address is its own. */
void tg_dial_proved(struct tg_dial *dial)
{
  if (dial->source == 0) return;
  know(&sources[dial->source - 1]);
  if (dial->is_stranger) begun[dial->kind].left += 1;
  tg_dial_end(dial);
}

/* Dials in flight, connections that wait for their client included. */
TG_EXPORT(tg_dials) u32_t tg_dials(void)
{
  return in_flight;
}
