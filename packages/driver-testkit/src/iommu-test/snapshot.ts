/**
 * Files and objects of the test ioctl in a snapshot: accesses, dma-bufs, mock devices.
 * @module
 */
import {
  type Access,
  decodeState,
  type Endpoint,
  encodeState,
  type LoadRefs,
  refuse,
  type SaveRefs,
  type SnapshotExtension,
  snapshotCodec,
} from '@iommukit/core';
import { TestAccess } from './access.ts';
import { SelftestDevice } from './devices.ts';
import { TestDmabuf } from './dmabuf.ts';

const { bool, list, nat, oneOf, struct, u16, u32, u64 } = snapshotCodec;

const OP = 'restoreSnapshot';

const THING = oneOf({
  access: struct({
    context: u32,
    id: u32,
    items: list(struct({ id: u32, iova: u64, length: u64 })),
    nextId: u32,
  }),
  dmabuf: struct({ base: nat, pages: nat, references: nat, revoked: bool }),
  device: struct({ context: u32, id: u32, device: u32, rid: u16 }),
});

type ThingState = snapshotCodec.Stored<typeof THING>;

const stateOf = (thing: object, refs: SaveRefs): ThingState | undefined => {
  if (thing instanceof TestAccess) {
    const { context, items, ...state } = thing.save();
    return { kind: 'access', ...state, items: [...items], context: refs.context(context) };
  }
  if (thing instanceof TestDmabuf) {
    const { base, pages, references, revoked } = thing;
    return { kind: 'dmabuf', base, pages, references, revoked };
  }
  if (!(thing instanceof SelftestDevice)) return undefined;
  const { id, device, endpoint } = thing;
  const context = refs.context(device.context);
  return { kind: 'device', context, id, device: device.id, rid: endpoint.rid };
};

const thingOf = (state: ThingState, refs: LoadRefs): object => {
  const { machine } = refs;
  if (state.kind === 'dmabuf') {
    const { base, pages, references } = state;
    const isRam = machine.memory.view(base, pages * 4096) !== undefined;
    if (!isRam || base % 4096 !== 0) throw bad('a dma-buf outside memory', base);
    if (references === 0) throw bad('a dma-buf that nobody holds', base);
    const dmabuf = new TestDmabuf(machine.memory, base, pages, references);
    dmabuf.revoked = state.revoked;
    return dmabuf;
  }
  const context = refs.context(state.context);
  if (state.kind === 'access') {
    const access: Access = context.find(OP, state.id, 'ACCESS');
    const file = new TestAccess(context, access);
    file.load(state.items, state.nextId);
    return file;
  }
  const device = context.find(OP, state.device, 'DEVICE');
  const endpoint = machine.endpoint(state.rid);
  if (device.device !== (endpoint as object)) throw bad('a mock device is another one', state.rid);
  return new SelftestDevice(state.id, device, endpoint as Endpoint);
};

const bad = (message: string, value: number) =>
  refuse('EINVAL', OP, 'test-state', message, { value, accepted: 'bytes of the test ioctl' });

/** Carries what IOMMU_TEST_CMD makes. */
export const IOMMU_TEST_SNAPSHOT: SnapshotExtension = {
  name: 'iommu-test',
  save: (thing, refs) => {
    const state = stateOf(thing, refs);
    return state && encodeState(THING, state);
  },
  load: (bytes, refs) => thingOf(decodeState(THING, bytes, OP), refs),
};
