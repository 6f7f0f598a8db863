/**
 * Bringing areas into being: into the tree, pinned, into every domain, charged; or not at all.
 * @linux drivers/iommu/iommufd/pages.c iopt_area_fill_domains
 * @module
 */
import { FrameRuns } from '../memory/index.ts';
import { fromPair, LOW_MASK } from './address.ts';
import { type IoptDomain, type IovaSpan, mapFrames, unmapSpan } from './domain-fill.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { PagesSlice } from './mapping.ts';
import type { IoptPages } from './pages.ts';
import * as refusal from './refusals.ts';

const EFAULT = -14;
const EINVAL = -22;

/** A domain of an address space, and its name for refusals. */
export interface DomainEntry {
  readonly domain: IoptDomain;
  /** `'HWPT 3'`, for instance. */
  readonly label: string;
}

/** Pages of a slice: those its bytes touch. */
const pageCount = ({ pageOffset, lengthPages, lengthLow }: PagesSlice): number =>
  lengthPages + ((pageOffset + lengthLow + LOW_MASK) >> 12);

/** Fills areas of one address space. */
export class AreaFiller {
  /** IOVA range being filled. */
  readonly span: IovaSpan = { startPfn: 0, startLow: 0, pages: 0, low: 0 };
  readonly frames = new FrameRuns();
  private readonly iopt: IoPagetable;

  constructor(iopt: IoPagetable) {
    this.iopt = iopt;
  }

  /**
   * Make areas one behind the other from an IOVA on that is known to be free.
   *
   * @throws {IommuError} what pinning, the limit or a driver says; nothing has changed then
   */
  add(op: string, slices: readonly PagesSlice[], pfn: number, low: number, prot: number): void {
    const filled = this.iopt.domains.length > 0;
    this.place(pfn, low);
    for (let i = 0; i < slices.length; i++) {
      const slice = slices[i] as PagesSlice;
      this.insert(slice, prot);
      try {
        if (filled) this.fill(op, slice, prot);
      } catch (error) {
        this.undo(slices.slice(0, i + 1), pfn, low, filled);
        throw error;
      }
      this.step();
    }
  }

  /** Aim at the area at the tree's cursor. */
  aimAtCursor(): void {
    const { nodes, at } = this.iopt.areas.tree;
    this.place(nodes.startPfn[at] as number, nodes.startLow(at));
    const bytes = nodes.lastLow(at) - this.span.startLow + 1;
    this.span.pages = (nodes.lastPfn[at] as number) - this.span.startPfn + (bytes >> 12);
    this.span.low = bytes & LOW_MASK;
  }

  /** Take the range aimed at out of every domain; their `sync` is the caller's. */
  unmapDomains(): void {
    const { domains } = this.iopt;
    for (let i = 0; i < domains.length; i++)
      unmapSpan((domains[i] as DomainEntry).domain, this.span);
  }

  /** Make unmaps visible to hardware. */
  sync(): void {
    const { domains } = this.iopt;
    for (let i = 0; i < domains.length; i++) (domains[i] as DomainEntry).domain.sync();
  }

  /**
   * Put `frames` into one domain at the range aimed at; nothing when `pages` are a dma-buf that was
   * taken back.
   *
   * @throws {IommuError} what the driver says
   */
  mapInto(
    op: string,
    { domain, label }: DomainEntry,
    pages: IoptPages,
    pageOffset: number,
    prot: number,
  ): void {
    if (pages.dmabuf?.revoked) return;
    const { largePages } = this.iopt;
    const rc = mapFrames(domain, this.span, pageOffset, this.frames, prot, largePages);
    if (rc < 0) throw refusal.driverRefused(op, rc, this.range(), label);
  }

  /**
   * Pin pages for a domain; their frames go to `frames`. Linux maps what it has pinned before it comes
   * to a page that cannot be, and drivers refuse to map without rights: that refusal comes first.
   *
   * @throws {IommuError} EFAULT, ENOMEM; EINVAL past a file's end or without rights
   */
  pin(
    op: string,
    { label }: DomainEntry,
    pages: IoptPages,
    first: number,
    count: number,
    prot: number,
  ): void {
    const rc = pages.acquire(first, count, this.frames);
    if (rc >= 0) return;
    if (rc === EFAULT && prot === 0 && count > 1 && pages.canPin(first)) {
      throw refusal.driverRefused(op, EINVAL, this.range(), label);
    }
    throw refusal.cannotPin(op, rc, pages);
  }

  private range() {
    const { startPfn, startLow, pages, low } = this.span;
    const end = startLow + low - 1;
    return {
      start: fromPair(startPfn, startLow),
      last: fromPair(startPfn + pages + (end >> 12), end & LOW_MASK),
    };
  }

  private place(pfn: number, low: number): void {
    this.span.startPfn = pfn;
    this.span.startLow = low;
  }

  /** Move on behind the range aimed at. */
  private step(): void {
    const { span } = this;
    const end = span.startLow + span.low;
    this.place(span.startPfn + span.pages + (end >> 12), end & LOW_MASK);
  }

  private insert(
    { pages, startIndex, pageOffset, lengthPages, lengthLow }: PagesSlice,
    prot: number,
  ) {
    const { span } = this;
    span.pages = lengthPages;
    span.low = lengthLow;
    const end = span.startLow + lengthLow - 1;
    pages.dmabuf?.track(this.iopt);
    this.iopt.areas.add(
      span.startPfn,
      span.startLow,
      span.startPfn + lengthPages + (end >> 12),
      end & LOW_MASK,
      pages,
      startIndex,
      pageOffset,
      prot,
    );
  }

  /** Pin, map into every domain, charge; what was done is undone before a throw. */
  private fill(op: string, slice: PagesSlice, prot: number): void {
    const { pages, startIndex, pageOffset } = slice;
    const { domains } = this.iopt;
    const count = pageCount(slice);
    this.pin(op, domains[0] as DomainEntry, pages, startIndex, count, prot);
    let done = 0;
    try {
      for (; done < domains.length; done++) {
        this.mapInto(op, domains[done] as DomainEntry, pages, pageOffset, prot);
      }
      this.charge(op, pages);
    } catch (error) {
      for (let i = 0; i < done; i++) {
        const { domain } = domains[i] as DomainEntry;
        unmapSpan(domain, this.span);
        domain.sync();
      }
      pages.release(startIndex, count);
      pages.settle();
      throw error;
    }
  }

  /** @throws {IommuError} ENOMEM over the limit */
  charge(op: string, pages: IoptPages): void {
    const rc = pages.settle();
    if (rc < 0) throw refusal.cannotPin(op, rc, pages);
  }

  /** Take areas out again; all but the last are filled when `filled`. */
  private undo(slices: readonly PagesSlice[], pfn: number, low: number, filled: boolean): void {
    const { areas } = this.iopt;
    this.place(pfn, low);
    slices.forEach((slice, i) => {
      areas.find(this.span.startPfn, this.span.startLow);
      this.span.pages = slice.lengthPages;
      this.span.low = slice.lengthLow;
      areas.removeAtCursor();
      if (filled && i < slices.length - 1) {
        this.unmapDomains();
        this.sync();
        slice.pages.release(slice.startIndex, pageCount(slice));
        slice.pages.settle();
      }
      this.step();
    });
  }
}
