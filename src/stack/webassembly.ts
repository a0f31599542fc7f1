/** The part of the WebAssembly interface that is used here, typed: @types/node has none, and lib.dom is not ours. */
export interface Module {
  readonly [tag: symbol]: unknown
}

export interface Memory {
  readonly buffer: ArrayBuffer
}

interface Interface {
  Module: {
    new (bytes: Uint8Array): Module
    imports(module: Module): { module: string; name: string; kind: string }[]
    exports(module: Module): { name: string; kind: string }[]
  }
  Instance: new (module: Module, imports: object) => { readonly exports: unknown }
  RuntimeError: new (message?: string) => Error
}

export const { Module, Instance, RuntimeError } = (globalThis as unknown as { WebAssembly: Interface }).WebAssembly
