// The light table: a player with boxes, the chart on the player's own time line, the verdict card.
// The server sends what it knows as `props.value`; files are dropped, chosen and played here.
const find = name => element.querySelector('.lt-' + name);
const root = element.querySelector('.lt');
const [stage, video, still, boxes, lanes, scrub] =
  ['stage', 'video', 'still', 'boxes', 'lanes', 'scrub'].map(find);
const languages = Object.keys(props.words);
const wanted = (navigator.language || 'en').toLowerCase().split('-')[0];
const language = languages.includes(wanted) ? wanted : 'en';
const words = props.words[language];
const blobs = new Map(); // a file's place on the server -> its address in this browser
const SNAP = 10; // pixels from a point within which a click means that point
const NEAR = 0.06; // seconds within which a box was measured, not moved in between

let run = 0; // number of the current check
let view = {}; // what the server has told last
let frames = []; // [index, time, picture] of the examined frames
let now = 0; // seconds
let playsFrames = false; // the browser cannot play the file: frames are shown instead
let timer = null; // plays the frames
let picked = 0; // number of the person whose face was chosen last
const written = {}; // part of the page -> its HTML

const translate = (key, values = {}) =>
  Object.entries(values).reduce((text, [k, v]) => text.replace('{' + k + '}', v), words[key]);
const setText = (name, key) => { find(name).textContent = words[key]; };

// Show a state; if this hides the focused button, focus the whole, from where Tab goes on.
function setState(state) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  root.dataset.state = state;
  document.body.dataset.unmask = state;
  find('card').setAttribute('aria-busy', state === 'working');
  if (focused && !focused.checkVisibility()) root.focus({preventScroll: true});
}

// Write a part's HTML if it has changed; a focused row of the table keeps the focus.
function write(name, html = '') {
  if (written[name] === html) return;
  written[name] = html;
  const row = document.activeElement?.dataset.row;
  find(name).innerHTML = html;
  if (row) find(name).querySelector(`[data-row="${row}"]`)?.focus();
}

function showMessage(key) {
  const line = document.createElement('p');
  line.className = 'lt-message';
  line.textContent = words[key];
  write('card', line.outerHTML);
}

function clear() {
  view = {};
  frames = [];
  now = 0;
  playsFrames = false;
  picked = 0;
  pause();
  video.removeAttribute('src');
  video.load();
  still.removeAttribute('src');
  boxes.replaceChildren();
  write('lanes');
  write('card');
  scrub.hidden = true;
  find('hint').hidden = true;
  find('clock').textContent = '';
  find('now').textContent = '';
  root.classList.remove('has-picture', 'has-video');
}

// Files --------------------------------------------------------------------------------------

function begin() {
  if (run) trigger('cancel', {run});
  run += 1;
  clear();
  write('desk');
  setState('busy');
  return run;
}

async function take(list) {
  const files = [...list];
  if (!files.length) return;
  const mine = begin();
  blobs.forEach(address => URL.revokeObjectURL(address));
  blobs.clear();
  const addresses = files.map(file => URL.createObjectURL(file));
  showFile(addresses[0], isPicture(files[0]));
  showMessage('uploading');
  const sent = [];
  try {
    for (const [number, file] of files.entries()) {
      const {path} = await upload(file);
      if (mine !== run) return;
      blobs.set(path, addresses[number]);
      sent.push({path, name: file.name});
    }
  } catch (error) {
    if (mine !== run) return;
    setState('error');
    showMessage('upload_failed');
    return;
  }
  showMessage('waiting');
  trigger('upload', {run, language, files: sent});
}

function takeExample(name) {
  begin();
  showMessage('waiting');
  trigger('upload', {run, language, example: name});
}

const isPicture = file => file.type.startsWith('image/') && file.type !== 'image/gif';

function showFile(address, picture) {
  root.classList.toggle('has-picture', picture);
  root.classList.toggle('has-video', !picture);
  const player = picture ? still : video;
  player.onerror = showFrames;
  player.src = address;
}

function showFrames() {
  playsFrames = true;
  root.classList.add('has-picture');
  root.classList.remove('has-video');
  if (!view.clip || !frames.length) return;
  find('hint').textContent = words.unplayable;
  find('hint').hidden = view.clip.still;
  still.onerror = null;
  seek(now);
}

// Time ---------------------------------------------------------------------------------------

const nearest = (times, time) => times.reduce(
  (best, other, i) => Math.abs(other - time) < Math.abs(times[best] - time) ? i : best, 0);
const nearestFrame = time => frames[nearest(frames.map(frame => frame[1]), time)];

function seek(time) {
  if (!view.clip) return;
  now = Math.max(0, Math.min(time, view.clip.length));
  if (playsFrames) {
    if (frames.length) still.src = nearestFrame(now)[2];
  } else if (!view.clip.still) {
    video.currentTime = Math.min(now, video.duration || now);
  }
  draw();
}

function step(by) {
  const times = frames.map(frame => frame[1]);
  const next = by > 0
    ? times.find(time => time > now + 0.005)
    : times.filter(time => time < now - 0.005).pop();
  if (next !== undefined) { pause(); seek(next); }
}

function pause() {
  video.pause();
  clearInterval(timer);
  timer = null;
  showPlay();
}

function toggle() {
  if (timer || !video.paused) return pause();
  if (!playsFrames) return video.play();
  if (!view.clip) return;
  timer = setInterval(() => {
    seek(now + 0.1);
    if (now >= view.clip.length) pause();
  }, 100);
  showPlay();
}

function showPlay() {
  const playing = timer !== null || !video.paused;
  find('play').textContent = playing ? '❚❚' : '►';
  find('play').setAttribute('aria-label', playing ? words.pause : words.play);
}

function follow() {
  if (video.paused) return;
  now = video.currentTime;
  draw();
  requestAnimationFrame(follow);
}

video.addEventListener('play', () => { showPlay(); follow(); });
video.addEventListener('pause', showPlay);
video.addEventListener('seeked', draw);
video.addEventListener('loadedmetadata', () => { if (!video.videoWidth) showFrames(); draw(); });

// Boxes and the playhead ---------------------------------------------------------------------

// A person's box and score at a time: measured on examined frames, moved in between.
function placeAt(person, time) {
  const {times, runs} = person;
  const last = times.findLastIndex(other => other <= time + 1e-3);
  const next = last + 1;
  const close = nearest(times, time);
  const gap = Math.abs(times[close] - time);
  const between = last >= 0 && next < times.length && runs[last] === runs[next];
  if (!between && !(gap <= view.clip.reach)) return null;
  let box = person.boxes[close];
  if (between) {
    const share = (time - times[last]) / (times[next] - times[last]);
    box = person.boxes[last].map((v, i) => v + share * (person.boxes[next][i] - v));
  }
  return {person, box, score: person.scores[close], measured: gap <= NEAR};
}

function draw() {
  const {clip, people = []} = view;
  if (!clip) return;
  const places = people
    .map(person => placeAt(person, clip.still ? person.times[0] : now))
    .filter(place => place);
  const unit = Math.max( // pixels of the clip for one of the screen
    clip.width / Math.max(1, stage.clientWidth), clip.height / Math.max(1, stage.clientHeight));
  boxes.setAttribute('viewBox', `0 0 ${clip.width} ${clip.height}`);
  boxes.replaceChildren(...places.map(place => drawBox(place, unit)));
  if (!clip.still) showTime(places);
}

function showTime(places) {
  const {clip, people = []} = view;
  const seen = places.map(({person, score}) =>
    translate('person', {id: person.id}) + ': ' + (score || '—')).join(', ');
  const moved = places.some(place => !place.measured);
  const said = seen ? seen + (moved ? ' · ' + words.between : '')
    : people.length ? words.no_face_now : '';
  find('clock').textContent = `${now.toFixed(1)} / ${clip.length.toFixed(1)} s`;
  find('now').textContent = said;
  scrub.querySelector('i').style.left = 100 * now / clip.length + '%';
  scrub.setAttribute('aria-valuemax', clip.length.toFixed(2));
  scrub.setAttribute('aria-valuenow', now.toFixed(2));
  scrub.setAttribute('aria-valuetext', `${now.toFixed(1)} s, ${said}`);
}

function makeSvg(name, values) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
  return node;
}

function drawBox({person, box, score, measured}, unit) {
  const [left, top, right, bottom] = box;
  const frame = {x: left, y: top, width: right - left, height: bottom - top, fill: 'none'};
  const dashes = (measured ? person.dash : '5 4').split(' ').filter(v => v);
  const text = person.id + (score ? `  ${person.symbol} ${score}` : '');
  const size = 13 * unit;
  const high = 1.5 * size;
  const width = (text.length * 0.58 + 0.8) * size;
  const y = top > 1.6 * size ? top - high : Math.min(bottom, view.clip.height - high);
  const label = makeSvg('text', {x: left + 0.4 * size, y: y + 1.1 * size, 'font-size': size,
    fill: person.ink, 'font-weight': 600});
  label.textContent = text;
  const group = makeSvg('g', {});
  group.append(
    makeSvg('rect', {...frame, stroke: '#fff', 'stroke-width': 4 * unit}),
    makeSvg('rect', {...frame, stroke: person.colour, 'stroke-width': 2.5 * unit,
      'stroke-dasharray': dashes.map(v => v * unit).join(' ')}),
    makeSvg('rect', {x: left, y, width, height: high, fill: person.colour}),
    label);
  return group;
}

// The chart ----------------------------------------------------------------------------------

function placeScrub() {
  const plot = lanes.querySelector('.timed .plot');
  scrub.hidden = !plot;
  if (!plot) return;
  const outer = lanes.querySelector('.lanes').getBoundingClientRect();
  const inner = plot.getBoundingClientRect();
  scrub.style.left = (inner.left - outer.left) + 'px';
  scrub.style.width = inner.width + 'px';
  scrub.style.height = outer.height + 'px';
}

// Go to a clicked place, or to the examined frame beside it; a click on a face also chooses it.
function goTo(event) {
  const area = scrub.getBoundingClientRect();
  if (!area.width) return;
  pause();
  const time = view.clip.length * (event.clientX - area.left) / area.width;
  const lane = [...lanes.querySelectorAll('.lane[data-person]')].find(lane => {
    const at = lane.getBoundingClientRect();
    return event.clientY >= at.top && event.clientY < at.bottom;
  });
  const person = lane && view.people?.find(p => p.id === Number(lane.dataset.person));
  const times = person ? person.times : frames.map(frame => frame[1]);
  const close = times[nearest(times, time)];
  const meant = Math.abs(close - time) * area.width / view.clip.length <= SNAP;
  if (meant && person && event.type === 'click') choose(person, close);
  seek(meant ? close : time);
}

function choose(person, time) {
  picked = person.id;
  trigger('choose', {run, person: person.id, frame: nearestFrame(time)[0]});
}

// Choose a face of this moment; called again, the next person's.
function chooseHere() {
  const here = (view.people || []).filter(p => p.times.some(time => Math.abs(time - now) < NEAR));
  if (here.length) choose(here[(here.findIndex(p => p.id === picked) + 1) % here.length], now);
}

scrub.addEventListener('pointermove', event => { if (event.buttons) goTo(event); });
scrub.addEventListener('click', goTo);
scrub.addEventListener('keydown', event => {
  const moves = {
    ArrowRight: () => step(1), ArrowUp: () => step(1), ArrowLeft: () => step(-1),
    ArrowDown: () => step(-1), Home: () => seek(0), End: () => seek(view.clip.length), ' ': toggle,
    Enter: chooseHere,
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
});

// What the server says -----------------------------------------------------------------------

function receive() {
  const value = props.value || {};
  if (value.run !== run) return;
  if (view.file && value.file !== view.file) clear();
  const isNew = value.clip && !view.clip;
  if (value.frames) frames = value.frames;
  view = value;
  setState(value.state);
  write('card', value.card);
  write('desk', value.desk);
  write('lanes', value.lanes);
  if (isNew) open();
  else if (playsFrames) showFrames();
  placeScrub();
  draw();
}

// Show the file of the view, unless it is shown since it was dropped.
function open() {
  const address = blobs.get(view.file) || view.address;
  const isStill = view.clip.still;
  root.classList.toggle('is-still', isStill);
  if (playsFrames) showFrames();
  else if ((isStill ? still : video).src !== address) showFile(address, isStill);
}

// Wiring -------------------------------------------------------------------------------------

setText('drop-title', 'drop');
setText('drop-more', 'drop_more');
setText('choose', 'choose');
setText('private', 'private');
setText('cancel', 'cancel');
setText('another', 'another');
scrub.setAttribute('aria-label', words.timeline);
showPlay();
if (props.examples.length) {
  find('examples').append(words.examples + ' ');
  for (const name of props.examples) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'lt-link';
    button.textContent = words['example_' + name] || name.replaceAll('_', ' ');
    button.dataset.example = name;
    button.addEventListener('click', () => takeExample(name));
    find('examples').append(button, ' ');
  }
}
const input = find('input');
const pick = () => input.click();
find('choose').addEventListener('click', pick);
find('another').addEventListener('click', pick);
input.addEventListener('change', () => { take(input.files); input.value = ''; });
find('play').addEventListener('click', toggle);
video.addEventListener('click', toggle);
find('cancel').addEventListener('click', () => {
  trigger('cancel', {run});
  run += 1;
  setState('cancelled');
  write('desk');
  showMessage('cancelled');
});
find('desk').addEventListener('click', event => {
  const row = event.target.closest('[data-row]');
  if (row) trigger('open', {run, row: Number(row.dataset.row)});
});
const onDrag = event => {
  if (!event.dataTransfer.types.includes('Files')) return;
  if (event.target.closest?.('.second-clip')) return;
  event.preventDefault();
  event.stopPropagation();
  root.classList.toggle('is-over', event.type === 'dragover');
  if (event.type === 'drop') take(event.dataTransfer.files);
};
for (const name of ['dragover', 'dragleave', 'drop']) document.addEventListener(name, onDrag, true);
// Arrow keys go from tab to tab; gradio has Tab alone for it.
document.addEventListener('keydown', event => {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  const tabs = [...document.querySelectorAll('#evidence [role=tab]')]
    .filter(tab => tab.checkVisibility({visibilityProperty: true}));
  const at = tabs.indexOf(event.target);
  if (!by || at < 0) return;
  const tab = tabs[(at + by + tabs.length) % tabs.length];
  tab.focus();
  tab.click();
});
new ResizeObserver(() => { placeScrub(); draw(); }).observe(element);
watch('value', receive);
setState('empty');
