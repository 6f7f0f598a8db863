import { legacyVmm, nativeVmm, type Print } from './scenario.ts';

const print: Print = (line) => console.log(line);

legacyVmm(print);
print('');
print('The same with iommufd');
nativeVmm((line) => print(`  ${line}`));
