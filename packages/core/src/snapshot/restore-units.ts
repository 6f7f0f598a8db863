/**
 * The driver's side: units that bring their own bytes, and those that are rebuilt by calls.
 * @module
 */
import type { IommuUnit, UnitDevice } from '../driver/contract.ts';
import type { NestedDomain, PagingDomain } from '../driver/domains.ts';
import type { DriverObject, PreparedUnit } from '../driver/migration.ts';
import type { VeventSink, ViommuBackend } from '../driver/viommu-backend.ts';
import { NOIOMMU_UNIT } from '../iommufd/noiommu-unit.ts';
import { eventSink, type Viommu } from '../iommufd/viommu.ts';
import { inconsistent } from './check.ts';
import { misfit } from './fit.ts';
import type { ObjectState, OriginState, StateOf } from './object-state.ts';
import type { RestoreGraph } from './restore-graph.ts';
import { savedBlob } from './saved-blob.ts';

/** Domains and vIOMMUs of all units. */
export class RestoredUnits {
  readonly #graph: RestoreGraph;
  readonly #prepared: (PreparedUnit | undefined)[] = [];
  readonly #objects = new Map<number, DriverObject>();
  readonly #viommus = new Map<number, Viommu>();
  /** Numbers of objects, by their state. */
  readonly #numbers = new Map<ObjectState, number>();

  /** @throws {IommuError} EINVAL for bytes that a unit does not take */
  constructor(graph: RestoreGraph) {
    this.#graph = graph;
    for (const { objects } of graph.state.contexts) {
      for (const object of objects)
        if (hasNumber(object)) this.#numbers.set(object, this.#numbers.size);
    }
    graph.state.units.forEach(({ state }, index) => {
      const prepared = state && this.#prepare(index, state);
      this.#prepared.push(prepared);
      for (const [number, object] of prepared?.objects ?? []) this.#objects.set(number, object);
    });
  }

  /** Whether a unit is rebuilt; -1 = the stand-in for no IOMMU. */
  isRebuilt(unit: number): boolean {
    return this.#prepared[unit] === undefined;
  }

  /** The domain of a HWPT. */
  paging(state: StateOf<'HWPT_PAGING'>): PagingDomain {
    const domain = this.isRebuilt(state.unit) ? this.#allocPaging(state) : this.#find(state);
    if (isDomain(domain, 'paging')) return domain;
    throw inconsistent('an IOMMU has another domain', state.id);
  }

  /** The domain of a nested HWPT. */
  nested(
    state: StateOf<'HWPT_NESTED'>,
    parent: PagingDomain,
    viommu: ViommuBackend | undefined,
  ): NestedDomain {
    const domain = this.isRebuilt(state.unit)
      ? this.#allocNested(state, parent, viommu)
      : this.#find(state);
    if (isDomain(domain, 'nested')) return domain;
    throw inconsistent('an IOMMU has another nested domain', state.id);
  }

  /** The driver's side of a vIOMMU; called by its constructor. */
  backend(state: StateOf<'VIOMMU'>, viommu: Viommu, offset: number | undefined): ViommuBackend {
    if (!this.isRebuilt(state.unit)) {
      const backend = this.#find(state);
      if (!backend || 'kind' in backend)
        throw inconsistent('an IOMMU has another vIOMMU', state.id);
      this.#viommus.set(this.#numbers.get(state) as number, viommu);
      return backend;
    }
    const unit = this.unit(state.unit);
    const { ops, device } = { ops: unit.viommu, device: this.device(unit, state.origin) };
    if (!ops) throw misfit(`vIOMMUs of ${unit.name}`, 'none', 'a unit with vIOMMUs');
    const data = savedBlob(state.origin.data);
    const backend = ops.init(device, state.type, viommu.hwpt.domain, data, eventSink(viommu));
    this.#graph.undo.push(() => backend.destroy());
    if (offset !== undefined) backend.setMmapOffset?.(offset);
    return backend;
  }

  /** Let units look at each other's objects; what they answer is done last. */
  link(): void {
    for (const prepared of this.#prepared) {
      if (prepared) this.#graph.commit.push(prepared.link((number) => this.#objects.get(number)));
    }
  }

  unit(index: number): IommuUnit {
    return index === -1 ? NOIOMMU_UNIT : (this.#graph.machine.units[index] as IommuUnit);
  }

  /** The device of a call, or one that looks like it. */
  device(unit: IommuUnit, { device }: OriginState): UnitDevice {
    const { machine } = this.#graph;
    const endpoint = machine.endpoint(device.rid);
    return endpoint && machine.unitOf(endpoint) === unit ? endpoint : device;
  }

  #prepare(index: number, bytes: Uint8Array): PreparedUnit {
    const unit = this.unit(index);
    if (!unit.migration) throw misfit(`migration of ${unit.name}`, 'none', 'the group migration');
    const prepared = unit.migration.prepare(bytes, (number) => this.#sink(number));
    this.#graph.undo.push(() => prepared.discard());
    return prepared;
  }

  /** Events reach the vIOMMU object, which is made later. */
  #sink(number: number): VeventSink {
    return {
      report: (type, data) => {
        const viommu = this.#viommus.get(number);
        return viommu ? eventSink(viommu).report(type, data) : false;
      },
    };
  }

  #find(state: ObjectState): DriverObject | undefined {
    return this.#objects.get(this.#numbers.get(state) ?? -1);
  }

  #allocPaging({
    unit: index,
    origin,
    enforceCacheCoherency,
  }: StateOf<'HWPT_PAGING'>): PagingDomain {
    const unit = this.unit(index);
    const device = this.device(unit, origin);
    const { flags } = origin;
    const domain = unit.allocPaging(device, { flags, userData: savedBlob(origin.data) });
    this.#graph.undo.push(() => domain.free());
    if (enforceCacheCoherency && !domain.enforcesCacheCoherency) domain.enforceCacheCoherency?.();
    return domain;
  }

  #allocNested(
    { unit: index, origin }: StateOf<'HWPT_NESTED'>,
    parent: PagingDomain,
    viommu: ViommuBackend | undefined,
  ): NestedDomain {
    const unit = this.unit(index);
    const device = this.device(unit, origin);
    const data = savedBlob(origin.data);
    const alloc = viommu ? viommu.allocNested?.bind(viommu) : undefined;
    const { nesting } = unit;
    if (!data || !(viommu ? alloc : nesting)) {
      throw misfit(`nesting of ${unit.name}`, 'none', 'a unit with nesting');
    }
    const domain = alloc
      ? alloc(device, origin.flags, data)
      : (nesting as NonNullable<typeof nesting>).allocNested(device, parent, origin.flags, data);
    this.#graph.undo.push(() => domain.free());
    return domain;
  }
}

const hasNumber = ({ kind }: ObjectState): boolean =>
  kind === 'HWPT_PAGING' || kind === 'HWPT_NESTED' || kind === 'VIOMMU';

const isDomain = <Kind extends 'paging' | 'nested'>(
  object: DriverObject | undefined,
  kind: Kind,
): object is Extract<DriverObject, { readonly kind: Kind }> =>
  object !== undefined && 'kind' in object && object.kind === kind;
