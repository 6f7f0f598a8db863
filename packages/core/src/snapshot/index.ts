/** The codecs of {@link snapshotCodec}, by a name that declarations of other packages can use. */
export type { Codec as SnapshotCodec } from './codec.ts';
export * as snapshotCodec from './codec.ts';
export { decodeState, encodeState, SNAPSHOT_VERSION } from './envelope.ts';
export type { LoadRefs, SaveRefs, SnapshotExtension } from './extension.ts';
export type { Held } from './held.ts';
export { inspectSnapshot, type SnapshotSummary } from './inspect-snapshot.ts';
export {
  type RestoredScenario,
  type RestoreOptions,
  restoreSnapshot,
} from './restore-snapshot.ts';
export { type SnapshotParts, saveSnapshot } from './save-snapshot.ts';
