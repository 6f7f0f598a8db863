/**
 * What a snapshot reaches from its roots, with a number for each thing.
 * @module
 */
import type { Machine } from '../bus/machine.ts';
import { refuse } from '../errors.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import { OwnedFile } from '../iommufd/mmap-regions.ts';
import type { Viommu } from '../iommufd/viommu.ts';
import { MemoryFile, type PinnableFile, type Process, UNPINNABLE_FILE } from '../memory/index.ts';
import type { OpenFile } from '../uapi/files.ts';
import type { VfioDevice } from '../vfio/vfio-device.ts';
import type { SaveRefs, SnapshotExtension } from './extension.ts';
import type { PinnableRef } from './iopt-state.ts';
import { Numbering } from './numbering.ts';
import type { FileRef } from './scenario-state.ts';

/** The call, in refusals. */
const SAVE_OP = 'saveSnapshot';

/** A refusal to save. */
export const cannotSave = (rule: string, message: string, accepted: string, owner = '') =>
  refuse('EBUSY', SAVE_OP, rule, message, { owner, accepted });

/** Everything met so far. */
export class SaveGraph implements SaveRefs {
  readonly machine: Machine;
  readonly processes = new Numbering<Process>();
  readonly contexts = new Numbering<IommufdContext>();
  readonly openFiles = new Numbering<OpenFile>();
  readonly memoryFiles = new Numbering<MemoryFile>();
  readonly vfioDevices = new Numbering<VfioDevice>();
  readonly foreign = new Numbering<object>();
  /** Extensions and bytes of the foreign things, by number. */
  readonly foreignStates: { extension: string; bytes: Uint8Array }[] = [];
  readonly #extensions = new Map<string, SnapshotExtension>();

  constructor(machine: Machine, extensions: readonly SnapshotExtension[]) {
    this.machine = machine;
    for (const extension of extensions) this.#extensions.set(extension.name, extension);
  }

  context(context: IommufdContext): number {
    if (context.machine !== this.machine) {
      throw cannotSave('one-machine', 'a context of another machine is reached', 'one machine');
    }
    for (const { snapshot } of context.extensions) {
      if (snapshot) this.#extensions.set(snapshot.name, snapshot);
    }
    return this.contexts.of(context);
  }

  /** What somebody's mapping is of. */
  fileRef(file: MemoryFile): FileRef {
    if (!(file instanceof OwnedFile)) {
      return { kind: 'memory', index: this.memoryFiles.of(file) };
    }
    const { context } = (file.owner as Viommu).hwpt.ioas;
    const region = context.mmapRegions.all.find((known) => known.file === file);
    return { kind: 'region', context: this.context(context), offset: region?.offset ?? 0 };
  }

  /** What pages are pinned from. */
  pinnableRef(file: PinnableFile): PinnableRef {
    if (file === UNPINNABLE_FILE) return { kind: 'unpinnable' };
    if (file instanceof MemoryFile) return { kind: 'memory', index: this.memoryFiles.of(file) };
    return { kind: 'foreign', index: this.foreignIndex(file, 'a file that is pinned') };
  }

  /**
   * Number of a thing that an extension carries.
   *
   * @throws {IommuError} EBUSY when none does
   */
  foreignIndex(thing: object, what: string): number {
    const known = this.foreign.find(thing);
    if (known >= 0) return known;
    for (const extension of this.#extensions.values()) {
      const bytes = extension.save(thing, this);
      if (!bytes) continue;
      const index = this.foreign.of(thing);
      this.foreignStates[index] = { extension: extension.name, bytes };
      return index;
    }
    const { name = '' } = thing as { readonly name?: string };
    throw cannotSave(
      'foreign-state',
      `nobody says how ${what} '${name}' is saved`,
      'an extension that carries it',
      name,
    );
  }
}
