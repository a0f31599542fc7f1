/*
 * Datagrams whose fragments have not all come (RFC 791 3.2, RFC 8200 4.5). lwIP's reassembly is not compiled: it searches
 * its list for each fragment, and believes lengths that do not fit together. Here a datagram is thrown away when its
 * fragments overlap (RFC 5722). When there is no room the oldest goes; who holds more than a quarter of the room loses
 * its own first, so that one client's attack leaves the others theirs.
 */
#include "tungate.h"

#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"
#include "lwip/mem.h"

#define DATAGRAMS 256
#define BUCKETS 512
#define MAX_BYTES (8u << 20) /* memory of fragments, all datagrams */
#define MAX_FRAGMENTS 1024   /* a datagram: 65,535 bytes in pieces of 64 */
#define MAX_AGE_MS 15000

struct fragment {
  struct fragment *next;
  u32_t start, end;
  u8_t bytes[];
};

static struct tg_reassembly {
  struct tg_fragment_names names;
  struct fragment *first, *last; /* by offset */
  u32_t total;                   /* 0: the last fragment has not come */
  u32_t received, memory, count;
  u64_t begun_ms;
  struct tg_reassembly *older, *newer, *hash_next;
  u8_t next;                     /* IPv6: what the first fragment says */
  u8_t head_bytes, head[IP6_HLEN + IP6_FRAG_HLEN]; /* of the first fragment, to be quoted; 0: not to be */
} datagrams[DATAGRAMS];

static struct tg_reassembly *buckets[BUCKETS], *oldest, *newest, *unused;
static u32_t fresh, memory;

static struct tg_reassembly **bucket_of(const struct tg_fragment_names *names)
{
  return &buckets[tg_hash_pair(names->client, names->dest, (u64_t)names->protocol << 32 | names->id) % BUCKETS];
}

static struct tg_reassembly *find(const struct tg_fragment_names *names)
{
  struct tg_reassembly *found = *bucket_of(names);
  while (found != NULL && memcmp(&found->names, names, sizeof *names) != 0) found = found->hash_next;
  return found;
}

static void free_fragments(struct tg_reassembly *datagram)
{
  while (datagram->first != NULL) {
    struct fragment *fragment = datagram->first;
    datagram->first = fragment->next;
    mem_free(fragment);
  }
  memory -= datagram->memory;
}

static void forget(struct tg_reassembly *datagram)
{
  free_fragments(datagram);
  struct tg_reassembly **link = bucket_of(&datagram->names);
  while (*link != datagram) link = &(*link)->hash_next;
  *link = datagram->hash_next;
  if (datagram->older != NULL) datagram->older->newer = datagram->newer;
  else oldest = datagram->newer;
  if (datagram->newer != NULL) datagram->newer->older = datagram->older;
  else newest = datagram->older;
  datagram->hash_next = unused;
  unused = datagram;
}

/* Its fragments, those included that wait, are lost. */
static void abandon(struct tg_reassembly *datagram)
{
  tg_counters.drop_fragment += datagram->count;
  forget(datagram);
}

/* 0: nobody but `keep` has anything to give up. */
static int evict(const struct tg_fragment_names *names, const struct tg_reassembly *keep)
{
  struct tg_reassembly *victim = NULL, *own = NULL;
  u32_t own_count = 0, own_memory = 0;
  for (struct tg_reassembly *at = oldest; at != NULL; at = at->newer) {
    int is_own = memcmp(at->names.client, names->client, 16) == 0;
    own_count += is_own;
    own_memory += is_own ? at->memory : 0;
    if (at == keep) continue;
    if (victim == NULL) victim = at;
    if (is_own && own == NULL) own = at;
  }
  if (own != NULL && (own_count > DATAGRAMS / 4 || own_memory > MAX_BYTES / 4)) victim = own;
  if (victim == NULL) return 0;
  abandon(victim);
  return 1;
}

static struct tg_reassembly *begin(const struct tg_fragment_names *names)
{
  if (unused == NULL && fresh == DATAGRAMS) evict(names, NULL);
  struct tg_reassembly *made = unused;
  if (made != NULL) unused = made->hash_next;
  else made = &datagrams[fresh++];
  struct tg_reassembly **bucket = bucket_of(names);
  *made = (struct tg_reassembly){.names = *names, .begun_ms = tg_now_ms, .older = newest, .hash_next = *bucket};
  *bucket = made;
  if (newest != NULL) newest->newer = made;
  else oldest = made;
  newest = made;
  return made;
}

enum fit { FITS, DUPLICATE, OVERLAPS };

/* Where a fragment belongs: behind `*behind`, NULL for the front. */
static enum fit place(const struct tg_reassembly *datagram, u32_t start, u32_t end, const u8_t *bytes,
                      struct fragment **behind)
{
  *behind = NULL;
  if (datagram->last != NULL && start >= datagram->last->end) {
    *behind = datagram->last;
    return FITS;
  }
  struct fragment *next = datagram->first;
  while (next != NULL && next->end <= start) {
    *behind = next;
    next = next->next;
  }
  if (next == NULL || next->start >= end) return FITS;
  int same = next->start == start && next->end == end && memcmp(next->bytes, bytes, end - start) == 0;
  return same ? DUPLICATE : OVERLAPS;
}

static struct fragment *copy_of(const u8_t *bytes, u32_t start, u32_t end, struct tg_reassembly *datagram)
{
  u32_t size = sizeof(struct fragment) + end - start;
  while (memory + size > MAX_BYTES)
    if (!evict(&datagram->names, datagram)) return NULL;
  struct fragment *made = mem_malloc(size);
  if (made == NULL) {
    TG_COUNT(drop_memory);
    return NULL;
  }
  memory += size;
  datagram->memory += size;
  made->start = start;
  made->end = end;
  memcpy(made->bytes, bytes, end - start);
  return made;
}

static void insert(struct tg_reassembly *datagram, struct fragment *fragment, struct fragment *behind)
{
  struct fragment **link = behind != NULL ? &behind->next : &datagram->first;
  fragment->next = *link;
  *link = fragment;
  if (fragment->next == NULL) datagram->last = fragment;
  datagram->count++;
  datagram->received += fragment->end - fragment->start;
}

/* The payload in one piece behind `room` bytes, and the datagram is forgotten. NULL: no memory. */
struct pbuf *tg_reassembled(struct tg_reassembly *datagram, u32_t room, u8_t *next)
{
  if (next != NULL) *next = datagram->next;
  struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)(room + datagram->total), PBUF_RAM);
  if (p == NULL) TG_COUNT(drop_memory);
  for (const struct fragment *at = datagram->first; p != NULL && at != NULL; at = at->next)
    memcpy((u8_t *)p->payload + room + at->start, at->bytes, at->end - at->start);
  forget(datagram);
  return p;
}

/* Keeps a fragment. The datagram when it is complete now, which tg_reassembled must take; else NULL. */
struct tg_reassembly *tg_reassemble(const struct tg_fragment_names *names, const struct tg_fragment *new)
{
  struct tg_reassembly *datagram = find(names);
  if (datagram == NULL) datagram = begin(names);
  struct fragment *behind;
  enum fit fit = place(datagram, new->start, new->end, new->bytes, &behind);
  if (fit == DUPLICATE) {
    TG_COUNT(drop_fragment);
    return NULL;
  }
  u32_t total = new->more ? datagram->total : new->end;
  u32_t reaches = datagram->last != NULL ? LWIP_MAX(datagram->last->end, new->end) : new->end;
  struct fragment *copy = NULL;
  if (fit == FITS && datagram->count < MAX_FRAGMENTS && (datagram->total == 0 || total == datagram->total) &&
      (total == 0 || reaches <= total))
    copy = copy_of(new->bytes, new->start, new->end, datagram);
  if (copy == NULL) {
    TG_COUNT(drop_fragment);
    abandon(datagram);
    return NULL;
  }
  insert(datagram, copy, behind);
  datagram->total = total;
  if (new->start == 0) {
    datagram->next = new->next;
    datagram->head_bytes = (u8_t)(new->head_bytes <= sizeof datagram->head ? new->head_bytes : 0);
    memcpy(datagram->head, new->head, datagram->head_bytes);
  }
  return total != 0 && datagram->received == total ? datagram : NULL;
}

/* ---- time ---- */

/* RFC 1122 3.3.2, RFC 8200 4.5: said where the first fragment has come. */
static void time_exceeded(const struct tg_reassembly *datagram)
{
  static u8_t quote[IP6_HLEN + IP6_FRAG_HLEN + 1024];
  const struct fragment *first = datagram->first;
  if (first->start != 0 || datagram->head_bytes == 0) return;
  u32_t part = LWIP_MIN(first->end, datagram->names.family == 6 ? 1024 : 8);
  memcpy(quote, datagram->head, datagram->head_bytes);
  memcpy(quote + datagram->head_bytes, first->bytes, part);
  if (datagram->names.family == 6) tg_error6(ICMP6_TYPE_TE, ICMP6_TE_FRAG, 0, quote, datagram->head_bytes + part);
  else tg_error4(ICMP_TE, ICMP_TE_FRAG, quote, datagram->head_bytes + part);
}

void tg_fragments_tick(void)
{
  while (oldest != NULL && tg_now_ms - oldest->begun_ms >= MAX_AGE_MS) {
    time_exceeded(oldest);
    abandon(oldest);
  }
}

int tg_fragments_busy(void)
{
  return oldest != NULL;
}

/* Bytes of fragments that wait for others. */
TG_EXPORT(tg_fragments_held) u32_t tg_fragments_held(void)
{
  return memory;
}
