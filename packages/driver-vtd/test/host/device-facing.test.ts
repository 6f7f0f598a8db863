/** What stands between devices and a unit with ECAP.PTRS=0, as an emulator's author uses it. */
import { NO_PASID } from '@iommukit/core';
import { expect, it } from 'vitest';
import { VtdIommuUnit, WithoutTranslatedPasid } from '../../src/index.ts';
import { attach, bench, map, paging, SVA_DEVICE, stampedPage } from './fixture.ts';

it('translated requests lose their PASID, all others keep it (VT-d 11.4.3 PTRS)', () => {
  const at = bench({ capabilities: { ecap: { PTRS: 0 } } }, [SVA_DEVICE]);
  if (!(at.unit instanceof VtdIommuUnit)) throw new TypeError('vtd() makes VT-d units');
  const frame = stampedPage(at.machine);
  const domain = paging(at);
  expect(map(domain, 7, frame)).toBe(0);
  attach(at, domain, 5);
  const byte = new Uint8Array(1);
  // Without PASID nothing is mapped at 7, so these go through PASID 5.
  expect(at.device.dmaRead(7 * 4096, byte, { pasid: 5 })).toBe(1);
  expect(at.device.dmaRead(7 * 4096, byte)).toBe(0);

  const { hardware } = at.unit;
  const faults: number[] = [];
  hardware.onFault = ({ reason }) => faults.push(reason);
  const seen: number[] = [];
  at.device.agent = new WithoutTranslatedPasid({
    translatePage: (rid, pasid, iovaPfn, access) =>
      hardware.translatePage(rid, pasid, iovaPfn, access),
    translationRequest: (...request) => hardware.translationRequest(...request),
    translatedPage: (rid, pasid, hpaPfn, access) => {
      seen.push(pasid);
      return hardware.translatedPage(rid, pasid, hpaPfn, access);
    },
    pageRequest: (request) => hardware.pageRequest(request),
  });
  attach(at, domain);
  expect(at.device.atsRead(7 * 4096, byte, { pasid: 5 })).toBe(1);
  expect([seen, faults]).toEqual([[NO_PASID], []]);
  // The unit itself refuses a translated request with PASID: EPTR is reserved without PTRS.
  at.device.agent = hardware;
  expect(at.device.atsRead(7 * 4096, byte, { pasid: 5 })).toBe(0);
  expect(faults).toEqual([0x49]);
});
