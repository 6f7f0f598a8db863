/**
 * Units without bytes of their own: their domains are filled, attached and switched by calls.
 * @module
 */
import { switchDomain } from '../iommufd/attach-switch.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import { refillDomain } from '../iopt/domain-list.ts';
import { RESTORE_OP } from './envelope.ts';
import type { StateOf } from './object-state.ts';
import type { RestoreGraph } from './restore-graph.ts';
import type { RestoredUnits } from './restore-units.ts';
import type { ContextState } from './scenario-state.ts';

/**
 * Bring the hardware to where the context says it is.
 *
 * @throws {IommuError} what a driver answers; `graph.undo` holds what was done
 */
export const rebuildUnits = (
  graph: RestoreGraph,
  units: RestoredUnits,
  context: IommufdContext,
  state: ContextState,
): void => {
  for (const object of state.objects) {
    if (object.kind === 'HWPT_PAGING' && units.isRebuilt(object.unit)) fill(context, object);
  }
  for (const { attachments } of context.groups.values()) {
    for (const [pasid, { handle, devices }] of attachments) {
      const [device] = devices.values();
      if (!device || !isRebuilt(graph, units, device)) continue;
      switchDomain(device, pasid, handle.hwpt.domain);
      graph.undo.push(() => switchDomain(device, pasid, device.unit.blocking));
    }
  }
  for (const object of state.objects) {
    if (object.kind === 'DEVICE' && object.faultUsers > 0) {
      enablePageRequests(graph, units, context.find(RESTORE_OP, object.id, 'DEVICE'));
    }
  }
};

const isRebuilt = (graph: RestoreGraph, units: RestoredUnits, { unit }: IommufdDevice): boolean =>
  units.isRebuilt(graph.machine.units.indexOf(unit));

const fill = (context: IommufdContext, { id, dirtyTracking }: StateOf<'HWPT_PAGING'>): void => {
  const { ioas, domain } = context.find(RESTORE_OP, id, 'HWPT_PAGING');
  const entry = ioas.iopt.domains.find((known) => known.domain === domain);
  if (entry) refillDomain(ioas.iopt, entry, RESTORE_OP);
  if (dirtyTracking) domain.dirty?.setTracking(true);
};

const enablePageRequests = (
  graph: RestoreGraph,
  units: RestoredUnits,
  bound: IommufdDevice,
): void => {
  const { pri } = bound.unit;
  if (!pri || !isRebuilt(graph, units, bound)) return;
  pri.enable(bound.device);
  graph.undo.push(() => pri.disable(bound.device));
};
