// `npm run version-packages`: turn the pending changesets into versions, changelogs, peer ranges.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/version.mjs');
