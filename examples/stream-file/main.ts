import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { SingleBar } from 'cli-progress';
import { tryBadDma } from './bad-dma.ts';
import { explainTranslation } from './explained.ts';
import { FileMedium } from './file-medium.ts';
import { type Options, parseOptions } from './options.ts';
import { createReport, type Report } from './report.ts';
import { streamFile } from './stream.ts';
import { resultText, setupText } from './text-report.ts';
import { createVmm } from './vmm.ts';

const sha256OfFile = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
};

/** A bar on stderr; silent where stderr is no terminal. */
const createProgress = (totalBytes: number) => {
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
  const bar = new SingleBar({
    format: '  {bar} {percentage} %  {value} of {total} MiB',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  bar.start(mib(totalBytes), 0);
  return {
    update: (bytes: number) => bar.update(mib(bytes)),
    stop: () => bar.stop(),
  };
};

const run = async ({ file, json, guestMib }: Options): Promise<Report> => {
  const medium = new FileMedium(file);
  const vmm = createVmm(medium, guestMib);
  const facts = { file, fileBytes: medium.lengthBytes, guestMib };
  if (!json) process.stdout.write(setupText({ ...facts, setup: vmm.setup }));
  const progress = json ? undefined : createProgress(medium.lengthBytes);
  const stream = streamFile(vmm, medium.lengthBytes, (bytes) => progress?.update(bytes));
  progress?.stop();
  const explained = explainTranslation(vmm);
  const badDma = tryBadDma(vmm);
  const report = createReport({
    ...facts,
    vmm,
    stream,
    explained,
    badDma,
    fileSha256: await sha256OfFile(file),
  });
  medium.close();
  vmm.close();
  return report;
};

const options = parseOptions(process.argv.slice(2));
try {
  const report = await run(options);
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : resultText(report));
  process.exitCode = report.ok ? 0 : 1;
} catch (error) {
  process.stderr.write(`stream-file: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
