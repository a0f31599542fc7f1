#include "socket_linux.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/** A burst of datagrams that waits for one turn of the event loop; the kernel grants net.core.[rw]mem_max at least. */
#define UDP_BUFFER_BYTES (4 << 20)
/** Length of a datagram that did not fit its slot. */
#define TOO_LONG UINT32_MAX
/** linux/udp.h, UDP_MAX_SEGMENTS: datagrams in one send with UDP_SEGMENT. */
#define SEGMENTS_MAX 64
/** Bytes of one send with UDP_SEGMENT, below the largest UDP payload over IPv4. */
#define SEGMENTED_BYTES_MAX 65000

union socket_address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

/** Returns the length of the socket address, 0 when the destination is none. */
static socklen_t fill_address(const struct destination *to, union socket_address *out) {
  memset(out, 0, sizeof *out);
  if (to->port > UINT16_MAX) return 0;
  if (to->address_bytes == 4) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons((uint16_t)to->port);
    memcpy(&out->v4.sin_addr, to->address, 4);
    return sizeof out->v4;
  }
  if (to->address_bytes != 16) return 0;
  out->v6.sin6_family = AF_INET6;
  out->v6.sin6_port = htons((uint16_t)to->port);
  memcpy(&out->v6.sin6_addr, to->address, 16);
  return sizeof out->v6;
}

static int set_int(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value);
}

/** Who may not force it past the limit gets the limit. */
static void set_buffer(int fd, int forced, int plain) {
  if (set_int(fd, SOL_SOCKET, forced, UDP_BUFFER_BYTES) < 0) set_int(fd, SOL_SOCKET, plain, UDP_BUFFER_BYTES);
}

/** The way out must be chosen before connect(), which looks up the route. */
static int set_way(int fd, const struct destination *to) {
  if (to->mark != 0 && set_int(fd, SOL_SOCKET, SO_MARK, (int)to->mark) < 0) return -1;
  if (to->device[0] == 0) return 0;
  return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, to->device, (socklen_t)strlen(to->device));
}

static int set_stream(int fd) {
  if (set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0) return -1;
  return set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static int set_datagram(int fd) {
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
  set_int(fd, IPPROTO_UDP, UDP_GRO, 1); /* a kernel without it gives datagrams one by one */
  return 0;
}

static int connect_ip(const struct destination *to, int type, int (*prepare)(int fd)) {
  union socket_address address;
  socklen_t length = fill_address(to, &address);
  if (length == 0) return -EINVAL;
  int fd = socket(address.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (prepare(fd) == 0 && set_way(fd, to) == 0) {
    if (connect(fd, &address.any, length) == 0 || errno == EINPROGRESS) return fd;
  }
  int error = errno;
  close(fd);
  return -error;
}

int socket_connect_tcp(const struct destination *to) { return connect_ip(to, SOCK_STREAM, set_stream); }

int socket_connect_udp(const struct destination *to) { return connect_ip(to, SOCK_DGRAM, set_datagram); }

int socket_connect_unix(const char *path, size_t length) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (length == 0) return -EINVAL;
  size_t end = path[0] == 0 ? 0 : 1;
  if (length + end > sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  size_t bytes = offsetof(struct sockaddr_un, sun_path) + length + end;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (const struct sockaddr *)&address, (socklen_t)bytes) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
}

int socket_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }

void socket_reset_on_close(int fd) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/** A stream may be given less than asked for: what is over the kernel's limit waits for the next call. */
static int stream_iovecs(const struct memory *memory, uint32_t iovecs, uint32_t *count, struct iovec *list) {
  if (*count > IOVECS_MAX) *count = IOVECS_MAX;
  const uint32_t *rows = memory_table(memory, iovecs, *count, 2);
  return rows == NULL ? -EFAULT : memory_iovecs(memory, rows, *count, list);
}

int socket_read(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count) {
  struct iovec list[IOVECS_MAX];
  int error = stream_iovecs(memory, iovecs, &count, list);
  if (error < 0) return error;
  ssize_t bytes = readv(fd, list, (int)count);
  return bytes < 0 ? -errno : (int)bytes;
}

int socket_write(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count) {
  struct iovec list[IOVECS_MAX];
  int error = stream_iovecs(memory, iovecs, &count, list);
  if (error < 0) return error;
  struct msghdr message = {.msg_iov = list, .msg_iovlen = count};
  ssize_t bytes = sendmsg(fd, &message, MSG_NOSIGNAL);
  return bytes < 0 ? -errno : (int)bytes;
}

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

int socket_receive(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes,
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

/** Datagrams for one sendmmsg(). Neighbours of one size travel as one message, which the kernel cuts (UDP_SEGMENT). */
struct batch {
  struct mmsghdr messages[DATAGRAMS_MAX];
  struct {
    uint32_t datagrams, bytes, segment;
    bool full;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
  } runs[DATAGRAMS_MAX];
  struct iovec list[IOVECS_MAX];
  uint32_t count, iovecs;
};

static uint32_t total(const struct iovec *list, int count) {
  size_t bytes = 0;
  for (int at = 0; at < count; at++) bytes += list[at].iov_len;
  return bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

/** The next `parts` iovecs join the last message, if they may: all of one size but the last, which may be shorter. */
static bool join(struct batch *batch, uint32_t parts, uint32_t bytes) {
  if (batch->count == 0) return false;
  uint32_t last = batch->count - 1;
  uint32_t segment = batch->runs[last].segment;
  if (batch->runs[last].full || bytes > segment || bytes == 0 || batch->runs[last].bytes + bytes > SEGMENTED_BYTES_MAX)
    return false;
  batch->runs[last].full = bytes < segment || batch->runs[last].datagrams + 1 == SEGMENTS_MAX;
  batch->runs[last].datagrams++;
  batch->runs[last].bytes += bytes;
  batch->messages[last].msg_hdr.msg_iovlen += parts;
  return true;
}

static void name_segments(struct batch *batch) {
  for (uint32_t at = 0; at < batch->count; at++) {
    if (batch->runs[at].datagrams == 1) continue;
    struct msghdr *message = &batch->messages[at].msg_hdr;
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
    uint32_t bytes = total(list, parts);
    if (!join(batch, (uint32_t)parts, bytes)) {
      if (batch->count == DATAGRAMS_MAX) break;
      batch->messages[batch->count].msg_hdr = (struct msghdr){.msg_iov = list, .msg_iovlen = (size_t)parts};
      batch->runs[batch->count].datagrams = 1;
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

int socket_send(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                struct segmenting *segmenting) {
  const uint32_t *rows = memory_table(memory, datagrams, count, 3);
  if (rows == NULL) return -EFAULT;
  struct batch batch;
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
