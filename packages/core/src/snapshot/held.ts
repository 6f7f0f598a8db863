/**
 * PASID allocators and policies that a program holds itself, given to save by name.
 * @module
 */
import type { IommufdContext } from '../iommufd/context.ts';
import { PasidAllocator } from '../pasid/allocator.ts';
import type { EnqcmdState } from '../pasid/enqcmd-gate.ts';
import { HostPasids } from '../pasid/host-pasids.ts';
import { GuestPasids } from '../pasid/policy.ts';
import { DevicePasids } from '../pasid/request-pasid.ts';
import type { HeldState } from './held-state.ts';
import { cannotSave, type SaveGraph } from './save-graph.ts';

/** What a program may hold beside processes and contexts. */
export type Held = PasidAllocator | HostPasids | GuestPasids | DevicePasids | EnqcmdState;

type HeldValue = HeldState['value'];

/**
 * All of them, in the order given.
 *
 * @throws {IommuError} EBUSY when the host PASIDs of a guest are not held too
 */
export const saveHeld = (graph: SaveGraph, held: Readonly<Record<string, Held>>): HeldState[] => {
  const things = Object.values(held);
  return Object.entries(held).map(([name, thing]) => ({
    name,
    value: saveOne(graph, thing, things),
  }));
};

const saveOne = (graph: SaveGraph, thing: Held, things: readonly Held[]): HeldValue => {
  if (thing instanceof PasidAllocator) return { kind: 'allocator', state: thing.save() };
  if (thing instanceof HostPasids) return { kind: 'hostPasids', state: thing.save() };
  if (thing instanceof GuestPasids) {
    const host = things.indexOf(thing.host);
    if (host >= 0) return { kind: 'guestPasids', host, state: thing.saveAll() };
    throw cannotSave('host-pasids', 'guest PASIDs come without those of the host', 'both');
  }
  if (thing instanceof DevicePasids) {
    const { device } = thing;
    const context = graph.context(device.context);
    return { kind: 'devicePasids', context, device: device.id, state: thing.save() };
  }
  const ppasids = [...thing.ppasids].map(([vpasid, ppasid]) => ({ vpasid, ppasid }));
  return { kind: 'enqcmd', ppasids };
};

/** Make them again, host PASIDs before those of guests. @throws {IommuError} EINVAL */
export const loadHeld = (
  states: readonly HeldState[],
  contexts: readonly IommufdContext[],
): Record<string, Held> => {
  const hosts = states.map(({ value }) =>
    value.kind === 'hostPasids' ? HostPasids.load(value.state) : undefined,
  );
  const things = states.map(({ name, value }, index): [string, Held] => [
    name,
    hosts[index] ?? loadOne(value, hosts, contexts),
  ]);
  return Object.fromEntries(things);
};

const loadOne = (
  value: HeldValue,
  hosts: readonly (HostPasids | undefined)[],
  contexts: readonly IommufdContext[],
): Held => {
  switch (value.kind) {
    case 'allocator':
      return PasidAllocator.load(value.state);
    case 'guestPasids':
      return GuestPasids.loadAll(hosts[value.host] as HostPasids, value.state);
    case 'devicePasids':
      return DevicePasids.load(
        contexts[value.context] as IommufdContext,
        value.device,
        value.state,
      );
    case 'enqcmd':
      return { ppasids: new Map(value.ppasids.map(({ vpasid, ppasid }) => [vpasid, ppasid])) };
    default:
      return HostPasids.load(value.state);
  }
};
