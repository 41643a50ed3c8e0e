// Compares a component with several builds of the same sources whose tool bakes random numbers in:
//   node .ci/same-but-seed.mjs CHECKED_IN BUILD BUILD BUILD
// Where the builds differ among themselves are the random numbers; everywhere else the checked-in one must have
// their bytes. Fails where it has others, and where the random places are more than some seeds take.
import { readFileSync } from "node:fs";

// Bytes of the snapshot that hold the generator's state and what was made of it; 203 were seen.
const RANDOM_BYTES_MAX = 1_024;
// Random places are small hash tables, whose few entries may have the same order in all builds by chance (their control
// bytes never are): what is as near to a random byte as such a table is long is random too. The longest takes 140 bytes.
const GAP = 256;

const [checkedIn, ...builds] = process.argv.slice(2).map((path) => readFileSync(path));
const fail = (why) => {
  console.error(why);
  process.exit(1);
};
for (const build of builds) {
  if (build.length !== checkedIn.length) {
    fail(`${checkedIn.length} bytes are checked in, a build has ${build.length}`);
  }
}
const random = [];
for (let at = 0; at < checkedIn.length; at += 1) {
  if (builds.some((build) => build[at] !== builds[0][at])) {
    const last = random.at(-1);
    if (last && at - last.end <= GAP) last.end = at;
    else random.push({ start: at, end: at });
  }
}
const count = random.reduce((sum, place) => sum + place.end - place.start + 1, 0);
if (count > RANDOM_BYTES_MAX) {
  fail(`${count} bytes are random, more than seeds take (${RANDOM_BYTES_MAX})`);
}
for (let at = 0; at < checkedIn.length; at += 1) {
  const near = random.some((place) => place.start - GAP <= at && at <= place.end + GAP);
  if (checkedIn[at] !== builds[0][at] && !near) {
    fail(`byte ${at} is another than in the builds, and is not random`);
  }
}
console.log(`${checkedIn.length} bytes as checked in, but for ${count} random ones in ${random.length} places`);
