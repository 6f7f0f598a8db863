/** Calls on accesses: attach, pin, unmap what is pinned, read and write. */
import { Access } from '@iommukit/core';
import { filledIoas, mapAt, newIoas } from './address-space-families.ts';
import type { Family } from './sweep.ts';
import { IOVA, type World } from './world.ts';

interface PinningAccess {
  readonly access: Access;
  /** Pin a range, once, and let go of it when told to or at the end. */
  pin(iova: number, length: number): number;
}

const pinningAccess = (world: World, ioasId: number): PinningAccess => {
  let pinned: { iova: number; length: number } | undefined;
  const letGo = () => {
    if (pinned) access.unpinPages(pinned.iova, pinned.length);
    pinned = undefined;
  };
  const access: Access = Access.create(world.context, { needsPin: true, unmap: letGo });
  access.attach('attach', world.context.find('attach', ioasId, 'IOAS'));
  closeLater(world, access);
  const pin = (iova: number, length: number): number => {
    const { length: count } = access.pinPages('pin', iova, length, true);
    pinned = { iova, length };
    return count;
  };
  return { access, pin };
};

/** An access over an IOAS with two mappings, one of which a device uses as well. */
const accessOver = (world: World): PinningAccess & { ioasId: number } => {
  const { ioasId } = filledIoas(world);
  mapAt(world, ioasId, IOVA, 4);
  mapAt(world, ioasId, IOVA + 0x4000, 4, 8);
  return { ...pinningAccess(world, ioasId), ioasId };
};

/** Whoever made an access closes it: here, the end of the process. */
const closeLater = (world: World, access: Access): void => {
  world.atEnd.push(() => access.close());
};

/** See the module. */
export const ACCESS_FAMILIES: readonly Family[] = [
  {
    name: 'create an access',
    prepare: (world) => () => {
      const access = Access.create(world.context, { needsPin: true });
      closeLater(world, access);
      return access.id;
    },
  },
  {
    name: 'attach an access',
    prepare: (world) => {
      const { ioasId } = filledIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const access = Access.create(world.context, { needsPin: true });
      closeLater(world, access);
      return () => access.attach('attach', world.context.find('attach', ioasId, 'IOAS'));
    },
  },
  {
    name: 'replace the address space of an access',
    prepare: (world) => {
      const { access } = accessOver(world);
      const other = newIoas(world);
      return () => access.replace('replace', world.context.find('replace', other, 'IOAS'));
    },
  },
  {
    name: 'pin pages of two mappings through an access',
    prepare: (world) => {
      const { pin } = accessOver(world);
      return () => pin(IOVA + 0x1000, 0x6000);
    },
  },
  {
    name: 'pin pages that only the access needs',
    prepare: (world) => {
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      mapAt(world, ioasId, IOVA + 0x4000, 4, 8);
      const { pin } = pinningAccess(world, ioasId);
      return () => pin(IOVA + 0x1000, 0x6000);
    },
  },
  {
    name: 'unmap what an access has pinned, which lets go when told',
    allocatesNothing: true,
    prepare: (world) => {
      const { pin, ioasId } = accessOver(world);
      pin(IOVA, 0x2000);
      return () => world.context.ioasUnmap({ ioasId, iova: IOVA, length: 0x4000 }).length;
    },
  },
  {
    name: 'read and write through an access, across mappings and processes',
    prepare: (world) => {
      const ioasId = newIoas(world);
      mapAt(world, ioasId, IOVA, 4);
      const access = Access.create(world.context, { needsPin: false });
      access.attach('attach', world.context.find('attach', ioasId, 'IOAS'));
      closeLater(world, access);
      return () => {
        const data = new Uint8Array(0x2800);
        const { process } = world;
        access.rw('rw', process, IOVA + 0x400, data, { write: false, slow: true });
        return data[0xc00];
      };
    },
  },
];
