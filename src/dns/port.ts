/** The port of DNS, over UDP and TCP (RFC 1035 §4.2). */
export const DNS_PORT = 53
