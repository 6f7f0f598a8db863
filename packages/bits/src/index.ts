/**
 * Hardware bits declared once: registers and table entries with the specification's field names and
 * `[hi:lo]` bits, and from the same declaration encode, decode, masks, explanations and diagrams.
 * @module
 */
export { type Decoded, decode, type Value } from './decode.ts';
export { type DiagramOptions, diagram, markdownTable } from './diagram.ts';
export { diagramSvg } from './diagram-svg.ts';
export { encode, type Settable, update, type Values } from './encode.ts';
export { type ExplainRow, explain } from './explain.ts';
export {
  addr,
  enumeration,
  type FieldKind,
  type FieldSpec,
  flag,
  ignored,
  type Kind,
  type Kinds,
  mbz,
  type Symbols,
  uint,
} from './fields.ts';
export { defineLayout, type Field, type Layout, type LayoutOptions, maskOf } from './layout.ts';
export {
  type Access,
  defineRegister,
  type Register,
  type RegisterFieldSpec,
  type RegisterOptions,
  readHalf,
  resetValue,
  writeHalf,
} from './register.ts';
export {
  addressToPfn,
  hex,
  hi32,
  lo32,
  pfnToAddress,
  splitHi,
  splitLo,
  toNumber,
  u64,
} from './u64.ts';
