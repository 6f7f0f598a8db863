// One 4 KiB map and its unmap, with one domain attached: pages are pinned, charged to an ordinary
// user, put into the domain and taken out again. Typed calls, then raw ones.
//
//   node ioctl.mjs typed|raw ROUNDS     prints one JSON line

import { minimum, print } from '../../../scripts/lib/measure.mjs';
import { createMachine, createProcess, IOAS_MAP, openIommufd } from '../dist/index.js';
import { arrayDriver } from './driver.mjs';

const PAGE = 4096;
const BATCH = 2000;
const IOVA = 0x10_0000;
const FLAGS = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
const TARGETS = { typed: 2000, raw: 4000 };

const [form, rounds] = process.argv.slice(2);
const machine = createMachine();
const device = machine.addEndpoint({ rid: '00:04.0' });
const unit = machine.addUnit(arrayDriver);
const owner = createProcess(machine, { uid: 1000 });
const context = openIommufd(owner, machine);
const { outIoasId: ioasId } = context.ioasAlloc();
context.deviceAttach(context.bindDevice(device), ioasId);
const userVa = owner.mmap({ length: PAGE });
owner.write(userVa, Uint8Array.of(1));

function typed() {
  const map = { ioasId, flags: FLAGS, userVa, length: PAGE, iova: IOVA };
  const unmap = { ioasId, iova: IOVA, length: PAGE };
  return () => {
    context.ioasMap(map);
    if (context.ioasUnmap(unmap).length !== 4096n) throw new Error('nothing was unmapped');
  };
}

/** Both structs lie in user memory already, and the answers leave them as they are. */
function raw() {
  const mapAt = owner.mmap({ length: PAGE });
  const unmapAt = mapAt + 64;
  const words = (...u32) => new Uint8Array(Uint32Array.from(u32).buffer);
  const halves = [userVa >>> 0, Math.floor(userVa / 2 ** 32)];
  owner.write(mapAt, words(40, FLAGS, ioasId, 0, ...halves, PAGE, 0, IOVA, 0));
  owner.write(unmapAt, words(24, ioasId, IOVA, 0, PAGE, 0));
  return () => {
    const rc = context.ioctl(0x3b85, mapAt) || context.ioctl(0x3b86, unmapAt);
    if (rc !== 0) throw context.lastRefusal;
  };
}

const roundTrip = form === 'typed' ? typed() : raw();
let trips = 0;
const ns = minimum(Number(rounds), BATCH, () => {
  for (let i = 0; i < BATCH; i++) roundTrip();
  trips += BATCH;
});
const { maps, unmaps } = unit.attached;
if (maps !== trips || unmaps !== trips) {
  throw new Error(`${trips} round trips, but the domain saw ${maps} maps and ${unmaps} unmaps`);
}
if (owner.user.lockedPages > 0) throw new Error('pages are still charged');
print({ op: `ioctl-${form}`, ns, target: TARGETS[form] });
