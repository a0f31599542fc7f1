/*
 * The tun device of Linux (Documentation/networking/tuntap.rst): opening, attaching, and packets in batches.
 */
#ifndef TUNGATE_TUN_LINUX_H
#define TUNGATE_TUN_LINUX_H

#include <stdbool.h>
#include <stdint.h>

#include "fault.h"
#include "memory.h"

/** IFNAMSIZ: 15 characters and the end. */
#define TUN_NAME_BYTES 16

struct tun {
  /** In: the device's name; ignored when `given_fd` is not -1. Out: the name that the kernel says. */
  char name[TUN_NAME_BYTES];
  /** In: -1, or a descriptor of /dev/net/tun that is attached to a device; it stays with its owner. */
  int given_fd;
  bool offload;
  bool multi_queue;

  /** Out: the descriptor, O_NONBLOCK and O_CLOEXEC, or -1 with `fault` set. */
  int fd;
  bool vnet_hdr;
  /** UDP super-packets are taken and given as well (VIRTIO_NET_HDR_GSO_UDP_L4). */
  bool uso;
  bool created;
  /** Queues attached to it now, ours included, and of whomever; 0 for a device with a single one. */
  int queues;
  /** Bytes; 0 when the device of `given_fd` is not in this network namespace. */
  int mtu;
  struct fault fault;
};

/** The kernel's dev_valid_name(), and no '%', which it would take as a pattern. */
bool tun_name_valid(const char *name);

/** A `struct tun` is opened in the network namespace of the calling thread. Calls only async-signal-safe functions. */
void tun_open(void *tun);

/** See Io.readPackets. */
int tun_read(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes);

/** See Io.writePackets. */
int tun_write(const struct memory *memory, int fd, uint32_t packets, uint32_t iovecs, uint32_t count);

#endif
