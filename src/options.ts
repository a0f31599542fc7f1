import type { EventEmitter } from 'node:events'

/**
 * What a gateway is told: the plain, frozen object that config.ts makes and that library users write by hand.
 * Every field has its default, unit and reason in config/default.yaml.
 */
export interface ProxyOptions {
  /** Host name, IPv4 or IPv6 address (no brackets). */
  readonly host: string
  readonly port: number
  readonly username?: string
  readonly password?: string
}

export interface GatewayOptions {
  readonly tun: {
    readonly name: string
    /** Inherited descriptor of an attached tun; wins over `name`. */
    readonly fd?: number
    /** Make or attach the device in the namespaces of this process. */
    readonly pid?: number
    readonly mtu: number
    /** `198.18.0.1/15`; '' for none. Set only on a device that we make. */
    readonly address4: string
    readonly address6: string
    /** vnet_hdr checksum and segmentation offload: used when the kernel has it, or never. */
    readonly offload: 'auto' | 'off'
  }
  readonly proxy: ProxyOptions
  /** How the gateway's own sockets leave the machine beside the tun. */
  readonly bind: {
    readonly interface: string
    /** SO_MARK; 0 for none. */
    readonly mark: number
  }
  readonly tcp: {
    readonly connectTimeoutMs: number
    readonly halfCloseTimeoutMs: number
    readonly idleTimeoutMs: number
    readonly keepAliveMs: number
  }
  readonly udp: {
    readonly idleTimeoutMs: number
    /** Client source endpoints with a live association; the least recently used goes first. */
    readonly maxAssociations: number
  }
  readonly limits: {
    readonly flows: number
    readonly dials: number
    readonly dialsPerSource: number
  }
  readonly icmp: { readonly echo: 'off' | 'reply' }
}

/** A live flow, for people: addresses are text (`198.18.0.1:50000`, `[fd74:756e::1]:53`). */
export interface FlowView {
  readonly id: number
  readonly protocol: 'tcp' | 'udp'
  readonly client: string
  readonly destination: string
  readonly state: string
  readonly ageMs: number
  /** Bytes from the client, and to it. */
  readonly bytesUp: number
  readonly bytesDown: number
}

/**
 * A running gateway. It emits 'error' with a GatewayError once, when it cannot go on: whoever owns it then calls
 * `close()`.
 */
export interface Gateway extends EventEmitter {
  /** The device's name; known once start() has resolved. */
  readonly tunName: string
  /** Opens device, stack and dialer. Rejects with GatewayError, and then nothing is left open. */
  start(): Promise<void>
  /** Ends all flows and closes in the reverse order. Idempotent; also while start() is under way. */
  close(): Promise<void>
  counters(): Readonly<Record<string, number>>
  flows(): FlowView[]
}
