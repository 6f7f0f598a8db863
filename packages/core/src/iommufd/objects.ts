/**
 * The object table of a context: ids, kinds, users.
 *
 * @linux drivers/iommu/iommufd/main.c iommufd_object_alloc, iommufd_object_remove
 * @module
 */
import { refuse } from '../errors.ts';
import { checkAllocation, type PhysicalMemory } from '../memory/index.ts';

/** Kinds of objects that core makes; extensions add their own names. */
export type ObjectKind =
  | 'IOAS'
  | 'HWPT_PAGING'
  | 'HWPT_NESTED'
  | 'DEVICE'
  | 'ACCESS'
  | 'FAULT'
  | 'VIOMMU'
  | 'VDEVICE'
  | 'VEVENTQ'
  | 'HW_QUEUE'
  | 'SELFTEST';

/** What every object has. */
export interface IommufdObject {
  readonly kind: ObjectKind;
  readonly id: number;
  /** Who holds it: other objects, descriptors, drivers. Not 0 = IOMMU_DESTROY answers EBUSY. */
  users: number;
  /** Give everything back. Its id is gone already. */
  destroy(): void;
}

/** An id that nothing can be found under: reserved for an object being made, or lost for good. */
const RESERVED = 'reserved';
const TOMBSTONE = 'tombstone';

const kindInWords = (kinds: readonly ObjectKind[]): string => kinds.join(' or ');

/** Ids count from 1; the lowest free one is given out. */
export class ObjectTable {
  readonly #slots: (IommufdObject | typeof RESERVED | typeof TOMBSTONE | undefined)[] = [RESERVED];
  /** No id below this one is free. */
  #lowest = 1;

  readonly #memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  /**
   * Take the lowest free id for an object that is being made.
   *
   * @throws {IommuError} ENOMEM
   */
  reserve(op: string): number {
    checkAllocation(this.#memory, op, 'object');
    checkAllocation(this.#memory, op, 'object id');
    let id = this.#lowest;
    while (this.#slots[id] !== undefined) id++;
    this.#slots[id] = RESERVED;
    this.#lowest = id + 1;
    return id;
  }

  /**
   * Build something under the lowest free id, which is free again when `build` throws.
   *
   * @throws {IommuError} ENOMEM, and what `build` throws
   */
  reserveFor<Made>(op: string, build: (id: number) => Made): Made {
    const id = this.reserve(op);
    try {
      return build(id);
    } catch (error) {
      this.release(id);
      throw error;
    }
  }

  /** Make a finished object findable under the id it reserved. */
  install(object: IommufdObject): void {
    this.#slots[object.id] = object;
  }

  /** Give an id back. */
  release(id: number): void {
    this.#slots[id] = undefined;
    this.#lowest = Math.min(this.#lowest, id);
  }

  /** Take an object out but keep its id from being used again. */
  bury(id: number): void {
    this.#slots[id] = TOMBSTONE;
  }

  /** The object with an id. */
  get(id: number): IommufdObject | undefined {
    const slot = this.#slots[id];
    return typeof slot === 'object' ? slot : undefined;
  }

  /** Objects by ascending id. */
  all(): IommufdObject[] {
    return this.#slots.filter((slot): slot is IommufdObject => typeof slot === 'object');
  }

  /** Ids in use, ascending: those of objects, of objects being made, and those lost for good. */
  get idsInUse(): number[] {
    return [...this.#slots.keys()].filter((id) => id > 0 && this.#slots[id] !== undefined);
  }

  /** Ids lost for good, ascending. */
  get tombstones(): number[] {
    return this.#slots.flatMap((slot, id) => (slot === TOMBSTONE ? [id] : []));
  }

  /** Whether some object is being made right now. */
  get isBusy(): boolean {
    return this.#slots.some((slot, id) => slot === RESERVED && id > 0);
  }

  /** Whether no id at all is in use, tombstones included. */
  get isEmpty(): boolean {
    return this.#slots.every((slot, id) => id === 0 || slot === undefined);
  }

  /**
   * The object with an id and one of some kinds.
   *
   * @throws {IommuError} ENOENT when there is none
   */
  find<Kind extends ObjectKind>(
    op: string,
    id: number,
    ...kinds: readonly Kind[]
  ): IommufdObject & { readonly kind: Kind } {
    const object = this.get(id);
    if (object && (kinds as readonly ObjectKind[]).includes(object.kind)) {
      return object as IommufdObject & { readonly kind: Kind };
    }
    throw this.missing(op, id, kinds);
  }

  /** The refusal for an id that names nothing, or something else. */
  missing(op: string, id: number, kinds: readonly ObjectKind[]) {
    const object = this.get(id);
    const accepted = this.all()
      .filter(({ kind }) => kinds.length === 0 || kinds.includes(kind))
      .map(({ id: other, kind }) => `${other} (${kind})`);
    return refuse(
      'ENOENT',
      op,
      object ? 'object-kind' : 'object-id',
      object ? `object ${id} is a ${object.kind}, not a ${kindInWords(kinds)}` : `no object ${id}`,
      { value: id, accepted: accepted.length > 0 ? accepted.join(', ') : 'no such object exists' },
    );
  }
}
