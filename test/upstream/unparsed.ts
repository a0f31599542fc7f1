/** What each parser of the codec fills, as it is before: nothing of it can come from a message. */
import { addressFields } from '../../src/upstream/socks5/socks5-codec.ts'

export const greeting = () => ({ offersNone: false, offersPassword: false })
export const method = () => ({ method: -1 })
export const auth = () => ({ usernameAt: 0, usernameLength: 0, passwordAt: 0, passwordLength: 0 })
export const authReply = () => ({ status: -1 })
export const request = () => ({ command: -1, ...addressFields() })
export const reply = () => ({ reply: -1, ...addressFields() })
export const udpHeader = () => ({ fragment: -1, ...addressFields() })
