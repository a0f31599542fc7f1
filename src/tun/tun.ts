/**
 * Seam 1: a packet device. A batch in, a batch out; the buffers belong to the caller (the stack's memory).
 * Tables are those of io/addon.ts: slots `{offset, length}`, packets `{first iovec, iovecs, tag}`.
 */
export interface Tun {
  readonly name: string
  /** Bytes of the largest IP packet the device forwards. */
  readonly mtu: number
  /** A 12-byte virtio_net_hdr stands before each packet, in both directions. */
  readonly vnetHdr: boolean
  /** Fills up to `count` slots; how many packets came (0: none now). Throws SystemError when the device is gone. */
  read(slots: number, count: number, slotBytes: number): number
  /** Hands `count` packets over; how many were taken, the others are lost. Throws SystemError when the device is gone. */
  write(packets: number, iovecs: number, count: number): number
}
