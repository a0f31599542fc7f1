#include "tun_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "link_linux.h"

/** sizeof(struct virtio_net_hdr_mrg_rxbuf) */
#define VNET_HDR_BYTES 12
#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
/** TUN_F_USO4 | TUN_F_USO6: UDP super-packets (Linux 6.2 and later; older headers do not name them). */
#define USO_OFFLOADS 0x60

static const char device[] = "/dev/net/tun";

bool tun_name_valid(const char *name) {
  size_t length = strlen(name);
  if (length == 0 || length >= TUN_NAME_BYTES) return false;
  if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return false;
  for (const char *c = name; *c != 0; c++)
    if ((unsigned char)*c <= ' ' || *c == 0x7f || strchr("/:%", *c) != NULL) return false;
  return true;
}

static const char *open_advice(int error) {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return "The tun driver is not there: load it with `modprobe tun`, or start the container with "
             "`--device /dev/net/tun`.";
    case EACCES:
    case EPERM:
      return "This user may not open /dev/net/tun: give it access to the device file, or run as root.";
    default:
      return "";
  }
}

static const char *attach_advice(int error, bool multi_queue, bool existed, bool ethernet) {
  switch (error) {
    case EPERM:
      return existed ? "The device belongs to another user: make it for this one with "
                       "`ip tuntap add NAME mode tun user USER`, or run with CAP_NET_ADMIN."
                     : "Making a device needs CAP_NET_ADMIN: run with it, or make the device beforehand with "
                       "`ip tuntap add NAME mode tun user USER`.";
    case EBUSY:
      return "The device is attached by another process: stop that one, or choose another name.";
    case E2BIG:
      return "All queues of the device are taken.";
    case EINVAL:
      if (ethernet) return "An interface of this name exists and is no tun device (a tap, perhaps): choose another name.";
      if (multi_queue && existed)
        return "The device was made without `multi_queue`, so it has a single queue: make it again with it.";
      return "An interface of this name exists and is no tun device, or the kernel does not know an asked flag.";
    default:
      return "";
  }
}

static int set_flags(int fd, const char *name, int flags) {
  struct ifreq request = {.ifr_flags = (short)flags};
  memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
  return ioctl(fd, TUNSETIFF, &request) == 0 ? 0 : errno;
}

/**
 * Attaches with `flags`. A device made with `multi_queue` refuses (EINVAL) who comes without IFF_MULTI_QUEUE, and
 * there is no unprivileged way to ask beforehand. Returns 0 or an errno.
 */
static int attach(int fd, const char *name, int flags, bool existed) {
  int error = set_flags(fd, name, flags);
  if (error != EINVAL || !existed || (flags & IFF_MULTI_QUEUE) != 0) return error;
  return set_flags(fd, name, flags | IFF_MULTI_QUEUE) == 0 ? 0 : error;
}

/**
 * Checksum and segmentation offload with a 12-byte header, or none at all; for UDP too where the kernel has it.
 * Returns 0 or -1 with errno.
 */
static int set_offload(struct tun *tun, int fd, bool vnet_hdr, bool offload) {
  int bytes = VNET_HDR_BYTES;
  tun->uso = false;
  if (vnet_hdr && ioctl(fd, TUNSETVNETHDRSZ, &bytes) < 0) return -1;
  if (!offload) return ioctl(fd, TUNSETOFFLOAD, 0UL);
  tun->uso = ioctl(fd, TUNSETOFFLOAD, (unsigned long)(OFFLOADS | USO_OFFLOADS)) == 0;
  return tun->uso ? 0 : ioctl(fd, TUNSETOFFLOAD, (unsigned long)OFFLOADS);
}

/** One try in one mode. The descriptor, or -1 with tun->fault. */
static int open_mode(struct tun *tun, bool vnet_hdr) {
  int fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return fault_set(&tun->fault, errno, "open(/dev/net/tun)", open_advice(errno));
  int flags = IFF_TUN | IFF_NO_PI | (vnet_hdr ? IFF_VNET_HDR : 0) | (tun->multi_queue ? IFF_MULTI_QUEUE : 0);
  int error = attach(fd, tun->name, flags, !tun->created);
  if (error != 0) {
    bool ethernet = !tun->created && link_hardware_type(tun->name) == ARPHRD_ETHER;
    fault_set(&tun->fault, error, "ioctl(TUNSETIFF)", attach_advice(error, tun->multi_queue, !tun->created, ethernet));
  } else if (set_offload(tun, fd, vnet_hdr, vnet_hdr) < 0 && vnet_hdr) {
    fault_set(&tun->fault, errno, "ioctl(TUNSETOFFLOAD)", "");
  } else {
    return fd;
  }
  close(fd);
  return -1;
}

static void open_named(struct tun *tun) {
  if (!tun_name_valid(tun->name)) {
    fault_set(&tun->fault, EINVAL, "tunOpen",
              "An interface name has 1 to 15 characters, without '/', ':', '%' or white space.");
    return;
  }
  tun->created = !link_exists(tun->name);
  tun->vnet_hdr = tun->offload;
  tun->fd = open_mode(tun, tun->vnet_hdr);
  if (tun->fd >= 0 || !tun->vnet_hdr) return;
  tun->vnet_hdr = false;
  tun->fd = open_mode(tun, false);
}

/** The flags of an attached queue are fixed (a second TUNSETIFF is EEXIST): what TUNGETIFF says is what we live with. */
static void open_given(struct tun *tun) {
  static const char no_tun[] = "The descriptor given must be one of /dev/net/tun, attached to a device by TUNSETIFF.";
  int fd = fcntl(tun->given_fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) {
    fault_set(&tun->fault, errno, "fcntl(F_DUPFD_CLOEXEC)", no_tun);
    return;
  }
  struct ifreq request = {0};
  if (ioctl(fd, TUNGETIFF, &request) < 0) {
    fault_set(&tun->fault, errno, "ioctl(TUNGETIFF)", no_tun);
  } else if ((request.ifr_flags & IFF_TUN) == 0 || (request.ifr_flags & IFF_NO_PI) == 0) {
    fault_set(&tun->fault, EINVAL, "ioctl(TUNGETIFF)",
              "The device of the descriptor given must have been attached with IFF_TUN and IFF_NO_PI.");
  } else if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
    fault_set(&tun->fault, errno, "fcntl(F_SETFL)", "");
  } else {
    tun->vnet_hdr = (request.ifr_flags & IFF_VNET_HDR) != 0;
    bool offload = tun->vnet_hdr && tun->offload;
    if (set_offload(tun, fd, tun->vnet_hdr, offload) < 0 && tun->vnet_hdr) {
      fault_set(&tun->fault, errno, "ioctl(TUNSETVNETHDRSZ)",
                "The device has IFF_VNET_HDR, and its header cannot be set to 12 bytes: attach it without.");
    } else {
      memcpy(tun->name, request.ifr_name, TUN_NAME_BYTES);
      tun->fd = fd;
      return;
    }
  }
  close(fd);
}

void tun_open(void *argument) {
  struct tun *tun = argument;
  tun->fd = -1;
  tun->created = false;
  tun->fault = (struct fault){0};
  if (tun->given_fd >= 0)
    open_given(tun);
  else
    open_named(tun);
  if (tun->fd < 0) return;
  tun->fault = (struct fault){0};
  tun->mtu = link_mtu(tun->name);
  tun->queues = link_queues(tun->name);
}

/** Bytes of a batch: more would have left the caches of the processor before they are sent on. */
#define BATCH_BYTES (1 << 20)

int tun_read(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes) {
  uint32_t *slot = memory_table(memory, slots, count, 2);
  if (slot == NULL) return -EFAULT;
  size_t total = 0;
  for (uint32_t taken = 0; taken < count; taken++, slot += 2) {
    if (total >= BATCH_BYTES) return (int)taken;
    void *place = memory_span(memory, slot[0], slot_bytes);
    ssize_t bytes = place == NULL ? -1 : read(fd, place, slot_bytes);
    if (bytes < 0) return taken > 0 ? (int)taken : place == NULL ? -EFAULT : -errno;
    slot[1] = (uint32_t)bytes;
    total += (size_t)bytes;
  }
  return (int)count;
}

/** EIO: the link is down. EBADFD: the device was deleted. Any other error is that of one packet. */
static bool device_gone(int error) {
  return error == EBADF || error == EBADFD || error == EIO || error == ENODEV;
}

int tun_write(const struct memory *memory, int fd, uint32_t packets, uint32_t iovecs, uint32_t count) {
  const uint32_t *packet = memory_table(memory, packets, count, 3);
  if (packet == NULL) return -EFAULT;
  struct iovec list[IOVECS_MAX];
  int taken = 0;
  for (uint32_t at = 0; at < count; at++, packet += 3) {
    int used = memory_message(memory, packet, iovecs, list, IOVECS_MAX);
    if (used < 0) return used;
    if (writev(fd, list, used) >= 0)
      taken++;
    else if (device_gone(errno))
      return -errno;
  }
  return taken;
}
