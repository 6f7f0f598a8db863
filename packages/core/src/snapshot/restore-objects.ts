/**
 * The objects of one context, kind by kind: each is made after those it refers to.
 * @module
 */

import type { PageFault } from '../driver/faults.ts';
import { Access } from '../iommufd/access.ts';
import { COHERENCY_POLICIES } from '../iommufd/coherency.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { type FaultGroup, FaultQueue } from '../iommufd/fault-queue.ts';
import { type AttachHandle, claimGroup, IommufdGroup, releaseGroup } from '../iommufd/group.ts';
import { allocQueue, HwQueue } from '../iommufd/hw-queue.ts';
import { type Hwpt, HwptNested, HwptPaging } from '../iommufd/hwpt.ts';
import { Ioas } from '../iommufd/ioas.ts';
import { NOIOMMU_UNIT } from '../iommufd/noiommu-unit.ts';
import type { IommufdObject } from '../iommufd/objects.ts';
import { Vdevice } from '../iommufd/vdevice.ts';
import { Veventq } from '../iommufd/veventq.ts';
import { Viommu } from '../iommufd/viommu.ts';
import { ShadowIoas } from '../nesting/software-nesting.ts';
import { inconsistent, need } from './check.ts';
import { RESTORE_OP } from './envelope.ts';
import type { FaultGroupState, ObjectState, PageFaultState, StateOf } from './object-state.ts';
import type { RestoreGraph } from './restore-graph.ts';
import { loadAreas, loadIoptRefs, loadPages } from './restore-iopt.ts';
import type { RestoredUnits } from './restore-units.ts';
import { savedBlob } from './saved-blob.ts';
import type { ContextState } from './scenario-state.ts';

const faultOf = ({ address, ...fault }: PageFaultState): PageFault =>
  address === undefined ? fault : { ...fault, address };

/** Makes the objects of one context. */
export class ObjectLoader {
  readonly #graph: RestoreGraph;
  readonly #units: RestoredUnits;
  readonly #context: IommufdContext;
  readonly #state: ContextState;

  constructor(
    graph: RestoreGraph,
    units: RestoredUnits,
    context: IommufdContext,
    state: ContextState,
  ) {
    this.#graph = graph;
    this.#units = units;
    this.#context = context;
    this.#state = state;
  }

  /** All of them, with everything that refers to them. */
  load(): void {
    this.#ioases();
    this.#groups();
    for (const state of this.#all('DEVICE')) this.#device(state);
    for (const { id } of this.#all('FAULT')) this.#install(new FaultQueue(this.#context, id));
    for (const state of this.#all('ACCESS')) this.#access(state);
    this.#areas();
    for (const state of this.#all('HWPT_PAGING')) this.#paging(state);
    for (const state of this.#all('VIOMMU')) this.#viommu(state);
    this.#regions();
    for (const state of this.#all('VDEVICE')) this.#vdevice(state);
    for (const state of this.#all('HWPT_NESTED')) this.#nested(state);
    for (const state of this.#all('VEVENTQ')) this.#veventq(state);
    const queues = this.#all('HW_QUEUE').sort((a, b) => a.index - b.index);
    for (const state of queues) this.#hwQueue(state);
    this.#references();
  }

  /** Objects of extensions, which may look at everything else, and what is counted at the end. */
  finish(): void {
    const { objects } = this.#context;
    for (const state of this.#all('FOREIGN')) {
      const object = this.#graph.foreign(state.index) as IommufdObject;
      need(object.id === state.id, 'an object of an extension has another id', state.id);
      this.#install(object);
    }
    for (const { id, users } of this.#state.objects)
      (objects.get(id) as IommufdObject).users = users;
    for (const id of this.#state.tombstones) objects.bury(id);
  }

  #all<Kind extends ObjectState['kind']>(kind: Kind): StateOf<Kind>[] {
    return this.#state.objects.filter((state): state is StateOf<Kind> => state.kind === kind);
  }

  #install(object: IommufdObject): void {
    this.#context.objects.install(object);
  }

  #find<Kind extends Parameters<IommufdContext['find']>[2]>(id: number, kind: Kind) {
    return this.#context.find(RESTORE_OP, id, kind);
  }

  #queue(id: number | undefined): FaultQueue | undefined {
    return id === undefined ? undefined : this.#find(id, 'FAULT');
  }

  /** Shadows follow their parents, which may be shadows too. */
  #ioases(): void {
    const context = this.#context;
    let waiting = this.#all('IOAS');
    while (waiting.length > 0) {
      const rest = waiting.filter(({ id, shadow }) => {
        const parent = shadow && context.objects.get(shadow.parent);
        if (shadow && !parent) return true;
        this.#install(parent ? new ShadowIoas(parent as Ioas, id) : new Ioas(context, id));
        return false;
      });
      if (rest.length === waiting.length) throw inconsistent('shadows of each other', rest.length);
      waiting = rest;
    }
  }

  #groups(): void {
    for (const { group: index } of this.#state.groups) {
      const group = this.#graph.group(index);
      claimGroup(RESTORE_OP, group, this.#context);
      this.#graph.undo.push(() => releaseGroup(group));
      this.#context.groups.set(group, new IommufdGroup(group));
    }
  }

  #device({ id, rid, faultUsers, partial }: StateOf<'DEVICE'>): void {
    const context = this.#context;
    const endpoint = this.#graph.endpoint(rid);
    const unit = context.machine.unitOf(endpoint) ?? NOIOMMU_UNIT;
    const group = context.groups.get(endpoint.group) as IommufdGroup;
    const device = new IommufdDevice(context, id, endpoint, unit, group);
    this.#graph.undo.push(() => device.faults.close());
    group.members.add(device);
    device.faults.load(
      faultUsers,
      partial.map(({ faults }) => faults.map(faultOf)),
    );
    this.#install(device);
  }

  #access({ id, needsPin, internal, ioas, unpinFrom }: StateOf<'ACCESS'>): void {
    const access = new Access(this.#context, id, { needsPin }, internal);
    const find = (of: number | undefined) =>
      of === undefined ? undefined : this.#find(of, 'IOAS');
    access.load(find(ioas), find(unpinFrom));
    this.#install(access);
  }

  #areas(): void {
    const pages = this.#state.pages.map((state) => loadPages(this.#graph, this.#context, state));
    for (const { id, coherency, iopt, shadow } of this.#all('IOAS')) {
      const ioas = this.#find(id, 'IOAS');
      ioas.coherency = COHERENCY_POLICIES[coherency] ?? 'auto';
      loadAreas(ioas, iopt, pages);
      if (shadow) (ioas as ShadowIoas).load(shadow.children);
    }
  }

  #paging(state: StateOf<'HWPT_PAGING'>): void {
    const { id, ioas, nestParent, pasidCompat, autoDomain, enforceCacheCoherency } = state;
    const hwpt = new HwptPaging(id, this.#find(ioas, 'IOAS'), this.#units.paging(state), {
      nestParent,
      pasid: pasidCompat,
      origin: this.#origin(state),
    });
    hwpt.autoDomain = autoDomain;
    hwpt.enforceCacheCoherency = enforceCacheCoherency;
    hwpt.fault = this.#queue(state.fault);
    this.#install(hwpt);
  }

  #origin(state: StateOf<'HWPT_PAGING'> | StateOf<'HWPT_NESTED'> | StateOf<'VIOMMU'>) {
    const { unit, origin } = state;
    const device = this.#units.device(this.#units.unit(unit), origin);
    return { device, flags: origin.flags, userData: savedBlob(origin.data) };
  }

  #viommu(state: StateOf<'VIOMMU'>): void {
    const { id, type, unit, hwpt } = state;
    const region = this.#state.mmapRegions.find(({ viommu }) => viommu === id);
    const made = new Viommu(
      id,
      type,
      this.#units.unit(unit),
      this.#find(hwpt, 'HWPT_PAGING'),
      this.#origin(state),
      (viommu) => this.#units.backend(state, viommu, region?.offset),
    );
    this.#install(made);
  }

  #regions(): void {
    for (const { offset, length, viommu, writableMappings, file } of this.#state.mmapRegions) {
      const owner = this.#find(viommu, 'VIOMMU');
      const region = owner.backend.mmapRegion;
      need(region?.lengthBytes === length, 'a vIOMMU offers another region', viommu);
      if (!region) continue;
      region.file.load(file);
      const owned = this.#context.mmapRegions.load(owner, offset, length, region.file);
      owned.writableMappings = writableMappings;
    }
  }

  #vdevice({ id, viommu, device, virtId }: StateOf<'VDEVICE'>): void {
    const made = new Vdevice(
      id,
      this.#find(viommu, 'VIOMMU'),
      this.#find(device, 'DEVICE'),
      virtId,
    );
    this.#install(made);
  }

  #nested(state: StateOf<'HWPT_NESTED'>): void {
    const parent = this.#find(state.parent, 'HWPT_PAGING');
    const viommu = state.viommu === undefined ? undefined : this.#find(state.viommu, 'VIOMMU');
    const domain = this.#units.nested(state, parent.domain, viommu?.backend);
    const { id, pasidCompat } = state;
    const hwpt = new HwptNested(id, parent, viommu, domain, pasidCompat, this.#origin(state));
    hwpt.fault = this.#queue(state.fault);
    this.#install(hwpt);
  }

  #veventq({ id, viommu: of, type, depth, sequence, events }: StateOf<'VEVENTQ'>): void {
    const viommu = this.#find(of, 'VIOMMU');
    const queue = new Veventq(this.#context, id, viommu, type, depth);
    viommu.veventqs.set(type, queue);
    queue.load(sequence, events);
    this.#install(queue);
  }

  #hwQueue(state: StateOf<'HW_QUEUE'>): void {
    const { id, access, start, pinnedBytes, type, index, iova, lengthBytes, baseHpa } = state;
    const viommu = this.#find(state.viommu, 'VIOMMU');
    const { hwQueue } = viommu.backend;
    if (!hwQueue) throw inconsistent('a vIOMMU without hardware queues', state.viommu);
    const place = { type, index, iova, lengthBytes, baseHpa, start, pinnedBytes };
    const queue = allocQueue(hwQueue, place);
    this.#install(new HwQueue(id, viommu, place, this.#find(access, 'ACCESS'), queue));
  }

  #references(): void {
    for (const { id, iopt, hwpts } of this.#all('IOAS')) {
      const ioas = this.#find(id, 'IOAS');
      ioas.hwpts.push(...hwpts.map((hwpt) => this.#find(hwpt, 'HWPT_PAGING')));
      loadIoptRefs(ioas, iopt);
    }
    this.#attachments();
    for (const { id, waiting, delivered } of this.#all('FAULT')) {
      this.#find(id, 'FAULT').load(
        waiting.map((group) => this.#faultGroup(group)),
        delivered.map((group) => group && this.#faultGroup(group)),
      );
    }
    const { vfioIoas, boundHere } = this.#state;
    this.#context.vfioIoas = vfioIoas === undefined ? undefined : this.#find(vfioIoas, 'IOAS');
    this.#context.loadBound(boundHere.map((id) => this.#find(id, 'DEVICE')));
  }

  #attachments(): void {
    for (const { group: index, attachments } of this.#state.groups) {
      const group = this.#context.groups.get(this.#graph.group(index)) as IommufdGroup;
      for (const { pasid, hwpt: id, devices } of attachments) {
        const hwpt = this.#context.objects.get(id) as Hwpt & IommufdObject;
        const members = devices.map((device) => this.#find(device, 'DEVICE'));
        group.attachments.set(pasid, {
          handle: { hwpt, pasid },
          devices: new Map(members.map((device) => [device.id, device])),
        });
      }
    }
  }

  #faultGroup({ device: id, pasid, grpid, handlePasid, faults }: FaultGroupState): FaultGroup {
    const device = this.#find(id, 'DEVICE');
    const handle = device.group.attachments.get(handlePasid)?.handle as AttachHandle;
    return { device, pasid, grpid, handle, faults: faults.map(faultOf) };
  }
}
