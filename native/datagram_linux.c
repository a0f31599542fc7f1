#include "datagram_linux.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "socket_linux.h"

/** Length of a datagram that did not fit its slot. */
#define TOO_LONG UINT32_MAX
/** linux/udp.h, UDP_MAX_SEGMENTS: datagrams in one send with UDP_SEGMENT. */
#define SEGMENTS_MAX 64
/** Bytes of one send with UDP_SEGMENT, below the largest UDP payload over IPv4. */
#define SEGMENTED_BYTES_MAX 65000

/** The size of the datagrams that the kernel has merged (UDP_GRO), or all of it. */
static uint32_t segment_bytes(struct msghdr *message, uint32_t bytes) {
  for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
    if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO) continue;
    int size;
    memcpy(&size, CMSG_DATA(control), sizeof size);
    if (size > 0 && (uint32_t)size < bytes) return (uint32_t)size;
  }
  return bytes;
}

/** Rows of what one message brought. Returns how many, at most SEGMENTS_MAX. */
static uint32_t split(struct mmsghdr *message, uint32_t offset, uint32_t *rows) {
  uint32_t left = message->msg_len, count = 0;
  uint32_t segment = segment_bytes(&message->msg_hdr, left);
  if ((message->msg_hdr.msg_flags & MSG_TRUNC) != 0) left = segment = TOO_LONG;
  do {
    rows[0] = offset;
    rows[1] = segment < left ? segment : left;
    offset += rows[1];
    left -= rows[1];
    rows += 2;
    count++;
  } while (left > 0 && count < SEGMENTS_MAX);
  return count;
}

int datagram_receive(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes,
                     uint32_t found) {
  if (count > DATAGRAMS_MAX) count = DATAGRAMS_MAX;
  const uint32_t *places = memory_table(memory, slots, count, 2);
  uint32_t *rows = memory_table(memory, found, count * SEGMENTS_MAX, 2);
  if (places == NULL || rows == NULL) return -EFAULT;
  struct iovec list[DATAGRAMS_MAX];
  struct mmsghdr messages[DATAGRAMS_MAX];
  _Alignas(struct cmsghdr) uint8_t controls[DATAGRAMS_MAX][CMSG_SPACE(sizeof(int))];
  for (uint32_t at = 0; at < count; at++) {
    void *place = memory_span(memory, places[2 * at], slot_bytes);
    if (place == NULL) return -EFAULT;
    list[at] = (struct iovec){.iov_base = place, .iov_len = slot_bytes};
    messages[at].msg_hdr = (struct msghdr){
        .msg_iov = &list[at], .msg_iovlen = 1, .msg_control = controls[at], .msg_controllen = sizeof controls[at]};
  }
  int taken = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
  if (taken < 0) return -errno;
  uint32_t used = 0;
  for (int at = 0; at < taken; at++) used += split(&messages[at], places[2 * at], rows + 2 * used);
  return (int)used;
}

/** RFC 1928 §7: 0, 0, no fragment, type of the address; address and port follow. */
#define HEADER_IPV4 10
#define HEADER_IPV6 22
#define TYPE_IPV4 1
#define TYPE_IPV6 4

/** Writes the header of a source so that it ends at `end`; its length, 0 when it is no address of the Internet. */
static uint32_t write_header(const union socket_address *from, uint8_t *end) {
  bool is_ipv4 = from->any.sa_family == AF_INET;
  if (!is_ipv4 && from->any.sa_family != AF_INET6) return 0;
  uint32_t length = is_ipv4 ? HEADER_IPV4 : HEADER_IPV6;
  uint8_t *header = end - length;
  memcpy(header, (const uint8_t[]){0, 0, 0, is_ipv4 ? TYPE_IPV4 : TYPE_IPV6}, 4);
  if (is_ipv4) memcpy(header + 4, &from->v4.sin_addr, 4);
  else memcpy(header + 4, &from->v6.sin6_addr, 16);
  memcpy(end - 2, is_ipv4 ? &from->v4.sin_port : &from->v6.sin6_port, 2);
  return length;
}

/** Takes the header off the first iovec. The length of the address, 0 when there is none. */
static socklen_t take_header(struct iovec *first, union socket_address *to) {
  const uint8_t *header = first->iov_base;
  if (first->iov_len < HEADER_IPV4 || header[2] != 0) return 0;
  size_t bytes = header[3] == TYPE_IPV4 ? 4 : header[3] == TYPE_IPV6 ? 16 : 0;
  if (bytes == 0 || first->iov_len < 6 + bytes) return 0;
  const uint8_t *port = header + 4 + bytes;
  struct destination destination = {
      .address = header + 4, .address_bytes = bytes, .port = (uint32_t)port[0] << 8 | port[1]};
  first->iov_base = (uint8_t *)first->iov_base + 6 + bytes;
  first->iov_len -= 6 + bytes;
  return socket_address(&destination, to);
}

int datagram_receive_from(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes,
                          uint32_t found) {
  if (count > DATAGRAMS_MAX) count = DATAGRAMS_MAX;
  if (slot_bytes <= HEADER_IPV6) return -EINVAL;
  const uint32_t *places = memory_table(memory, slots, count, 2);
  uint32_t *rows = memory_table(memory, found, count, 2);
  if (places == NULL || rows == NULL) return -EFAULT;
  struct iovec list[DATAGRAMS_MAX];
  struct mmsghdr messages[DATAGRAMS_MAX];
  union socket_address from[DATAGRAMS_MAX];
  for (uint32_t at = 0; at < count; at++) {
    uint8_t *place = memory_span(memory, places[2 * at], slot_bytes);
    if (place == NULL) return -EFAULT;
    list[at] = (struct iovec){.iov_base = place + HEADER_IPV6, .iov_len = slot_bytes - HEADER_IPV6};
    messages[at].msg_hdr = (struct msghdr){
        .msg_iov = &list[at], .msg_iovlen = 1, .msg_name = &from[at], .msg_namelen = sizeof from[at]};
  }
  int taken = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
  if (taken < 0) return -errno;
  for (int at = 0; at < taken; at++) {
    uint32_t header = write_header(&from[at], list[at].iov_base);
    bool whole = header > 0 && (messages[at].msg_hdr.msg_flags & MSG_TRUNC) == 0;
    rows[2 * at] = places[2 * at] + HEADER_IPV6 - header;
    rows[2 * at + 1] = whole ? header + messages[at].msg_len : TOO_LONG;
  }
  return taken;
}

/** Datagrams for one sendmmsg(). Neighbours of one size travel as one message, which the kernel cuts (UDP_SEGMENT). */
struct batch {
  struct mmsghdr messages[DATAGRAMS_MAX];
  struct {
    uint32_t datagrams, bytes, segment;
    bool full;
    /** Of `to`; 0: of the socket's own peer. */
    socklen_t address_bytes;
    union socket_address to;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
  } runs[DATAGRAMS_MAX];
  struct iovec list[IOVECS_MAX];
  uint32_t count, iovecs;
  /** Each datagram begins with the header of its destination. */
  bool headed;
};

static uint32_t total(const struct iovec *list, int count) {
  size_t bytes = 0;
  for (int at = 0; at < count; at++) bytes += list[at].iov_len;
  return bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

/**
 * The next `parts` iovecs join the last message, if they may: all to one address, and of one size but the last, which may be
 * shorter.
 */
static bool join(struct batch *batch, uint32_t parts, uint32_t bytes, const union socket_address *to, socklen_t length) {
  if (batch->count == 0) return false;
  uint32_t last = batch->count - 1;
  uint32_t segment = batch->runs[last].segment;
  if (batch->runs[last].full || bytes > segment || bytes == 0 || batch->runs[last].bytes + bytes > SEGMENTED_BYTES_MAX)
    return false;
  if (batch->runs[last].address_bytes != length || memcmp(&batch->runs[last].to, to, length) != 0) return false;
  batch->runs[last].full = bytes < segment || batch->runs[last].datagrams + 1 == SEGMENTS_MAX;
  batch->runs[last].datagrams++;
  batch->runs[last].bytes += bytes;
  batch->messages[last].msg_hdr.msg_iovlen += parts;
  return true;
}

static void name_segments(struct batch *batch) {
  for (uint32_t at = 0; at < batch->count; at++) {
    struct msghdr *message = &batch->messages[at].msg_hdr;
    if (batch->runs[at].address_bytes > 0) {
      message->msg_name = &batch->runs[at].to;
      message->msg_namelen = batch->runs[at].address_bytes;
    }
    if (batch->runs[at].datagrams == 1) continue;
    message->msg_control = batch->runs[at].control;
    message->msg_controllen = sizeof batch->runs[at].control;
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    *control = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT};
    uint16_t segment = (uint16_t)batch->runs[at].segment;
    memcpy(CMSG_DATA(control), &segment, sizeof segment);
  }
}

/** Gathers datagrams from the first row on, as many as there is room for. Returns 0 or a negative errno. */
static int gather(const struct memory *memory, const uint32_t *rows, uint32_t count, uint32_t iovecs,
                  uint32_t refused_bytes, struct batch *batch) {
  batch->count = batch->iovecs = 0;
  for (uint32_t at = 0; at < count; at++) {
    struct iovec *list = batch->list + batch->iovecs;
    int parts = memory_message(memory, rows + 3 * at, iovecs, list, IOVECS_MAX - batch->iovecs);
    if (parts == -EINVAL && at > 0) break;
    if (parts < 0) return parts;
    union socket_address to;
    socklen_t length = 0;
    if (batch->headed && (length = parts == 0 ? 0 : take_header(list, &to)) == 0) {
      if (at > 0) break;
      return -EINVAL;
    }
    uint32_t bytes = total(list, parts);
    if (!join(batch, (uint32_t)parts, bytes, &to, length)) {
      if (batch->count == DATAGRAMS_MAX) break;
      batch->messages[batch->count].msg_hdr = (struct msghdr){.msg_iov = list, .msg_iovlen = (size_t)parts};
      batch->runs[batch->count].datagrams = 1;
      batch->runs[batch->count].address_bytes = length;
      memcpy(&batch->runs[batch->count].to, &to, length);
      batch->runs[batch->count].bytes = batch->runs[batch->count].segment = bytes;
      batch->runs[batch->count++].full = refused_bytes > 0 && bytes >= refused_bytes;
    }
    batch->iovecs += (uint32_t)parts;
  }
  name_segments(batch);
  return 0;
}

/** Datagrams sent one by one before UDP_SEGMENT is tried again. */
#define RETRY_AFTER 65536

/** True: what `error` says, it says of UDP_SEGMENT itself, for datagrams of `bytes`. */
static bool segments_refused(int error, uint32_t bytes, struct segmenting *segmenting) {
  bool is_size = error == EINVAL || error == EMSGSIZE; /* the way has a smaller MTU */
  bool is_device = error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT; /* one that sums no checksums */
  if (!is_size && !is_device) return false;
  segmenting->refused_bytes = is_size ? bytes : 1;
  segmenting->retry_after = RETRY_AFTER;
  return true;
}

static void count_sent(struct segmenting *segmenting, uint32_t sent) {
  if (segmenting->refused_bytes == 0) return;
  if (segmenting->retry_after > sent) segmenting->retry_after -= sent;
  else segmenting->refused_bytes = 0;
}

static int send_batches(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                        struct segmenting *segmenting, bool headed) {
  const uint32_t *rows = memory_table(memory, datagrams, count, 3);
  if (rows == NULL) return -EFAULT;
  struct batch batch;
  batch.headed = headed;
  uint32_t sent = 0;
  int error = 0;
  while (sent < count) {
    error = gather(memory, rows + 3 * sent, count - sent, iovecs, segmenting->refused_bytes, &batch);
    if (error < 0) break;
    int taken = sendmmsg(fd, batch.messages, batch.count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0) {
      if (batch.runs[0].datagrams > 1 && segments_refused(errno, batch.runs[0].segment, segmenting)) continue;
      error = -errno;
      break;
    }
    for (int at = 0; at < taken; at++) sent += batch.runs[at].datagrams;
    if ((uint32_t)taken < batch.count && batch.runs[taken].datagrams == 1) break;
  }
  count_sent(segmenting, sent);
  return sent > 0 ? (int)sent : error;
}

int datagram_send(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                  struct segmenting *segmenting) {
  return send_batches(memory, fd, datagrams, iovecs, count, segmenting, false);
}

int datagram_send_to(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                     struct segmenting *segmenting) {
  return send_batches(memory, fd, datagrams, iovecs, count, segmenting, true);
}
