import { runScenario } from './scenario.ts';

for (const { title, facts } of runScenario()) {
  console.log(title);
  for (const [name, value] of Object.entries(facts)) console.log(`  ${name}: ${value}`);
}
