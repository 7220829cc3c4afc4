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

let run = 0;
let view = {};
let frames = []; // [index, time, picture] of the frames that were looked at
let now = 0;
let playsFrames = false; // the browser cannot play the file: frames are shown instead
let timer = null;
let drawnLanes = '';

const translate = (key, values = {}) =>
  Object.entries(values).reduce((text, [k, v]) => text.replace('{' + k + '}', v), words[key]);
const setText = (name, key) => { find(name).textContent = words[key]; };
const setState = state => {
  root.dataset.state = state;
  document.body.dataset.unmask = state;
};

function clear() {
  view = {};
  frames = [];
  now = 0;
  playsFrames = false;
  clearInterval(timer);
  timer = null;
  video.pause();
  video.removeAttribute('src');
  video.load();
  still.removeAttribute('src');
  boxes.replaceChildren();
  lanes.replaceChildren();
  scrub.hidden = true;
  find('card').innerHTML = '';
  find('hint').hidden = true;
  find('clock').textContent = '';
  find('now').textContent = '';
  root.classList.remove('has-picture', 'has-video');
}

function showMessage(text) {
  const line = document.createElement('p');
  line.className = 'lt-message';
  line.textContent = text;
  find('card').replaceChildren(line);
}

// Files --------------------------------------------------------------------------------------

function begin() {
  if (run) trigger('cancel', {run});
  run += 1;
  clear();
  find('desk').innerHTML = '';
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
  showMessage(words.uploading);
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
    showMessage(words.upload_failed);
    return;
  }
  showMessage(words.waiting);
  trigger('upload', {run, language, files: sent});
}

function takeExample(name) {
  begin();
  showMessage(words.waiting);
  trigger('upload', {run, language, example: name});
}

const isPicture = file => file.type.startsWith('image/') && file.type !== 'image/gif';

function showFile(address, picture) {
  root.classList.add(picture ? 'has-picture' : 'has-video');
  root.classList.remove(picture ? 'has-video' : 'has-picture');
  const shown = picture ? still : video;
  shown.onerror = () => showFrames();
  shown.src = address;
}

function showFrames() {
  playsFrames = true;
  root.classList.add('has-picture');
  root.classList.remove('has-video');
  if (!frames.length) return;
  if (view.clip && !view.clip.still) {
    find('hint').textContent = words.unplayable;
    find('hint').hidden = false;
  }
  still.onerror = null;
  seek(now);
}

// Time ---------------------------------------------------------------------------------------

const nearestFrame = time => frames.reduce(
  (best, frame) => Math.abs(frame[1] - time) < Math.abs(best[1] - time) ? frame : best, frames[0]);

function seek(time) {
  const end = view.clip ? view.clip.length : 0;
  now = Math.max(0, Math.min(time, end));
  if (playsFrames) {
    if (frames.length) still.src = nearestFrame(now)[2];
  } else if (!(view.clip && view.clip.still)) {
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
  if (!view.clip && !video.src) return;
  if (playsFrames) {
    if (timer) return pause();
    timer = setInterval(() => {
      now += 0.1;
      if (now >= view.clip.length) { now = view.clip.length; pause(); }
      seek(now);
    }, 100);
    return showPlay();
  }
  video.paused ? video.play() : video.pause();
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

function placeAt(person, time) {
  // The person's box and score at a time: measured on frames that were looked at, moved between.
  const {times, boxes: at, scores, runs} = person;
  let last = -1;
  while (last + 1 < times.length && times[last + 1] <= time + 1e-3) last += 1;
  const next = last + 1;
  const gap = i => i < 0 || i >= times.length ? Infinity : Math.abs(times[i] - time);
  const near = gap(last) <= gap(next) ? last : next;
  if (gap(near) === Infinity) return null;
  const between = last >= 0 && next < times.length && runs[last] === runs[next];
  if (!between && gap(near) > view.clip.reach) return null;
  let box = at[near];
  if (between) {
    const share = (time - times[last]) / (times[next] - times[last]);
    box = at[last].map((v, i) => v + share * (at[next][i] - v));
  }
  return {box, score: scores[near], measured: gap(near) <= NEAR};
}

function draw() {
  const clip = view.clip;
  if (!clip) return;
  if (!clip.still) find('clock').textContent = now.toFixed(1) + ' / ' + clip.length.toFixed(1) + ' s';
  const people = view.people || [];
  const unit = clip.width / Math.max(1, Math.min(
    stage.clientWidth, stage.clientHeight * clip.width / clip.height));
  boxes.setAttribute('viewBox', '0 0 ' + clip.width + ' ' + clip.height);
  boxes.setAttribute('width', clip.width);
  boxes.setAttribute('height', clip.height);
  const drawn = [];
  const told = [];
  let between = false;
  for (const person of people) {
    const place = placeAt(person, clip.still ? person.times[0] : now);
    if (!place) continue;
    drawn.push(drawBox(person, place, unit));
    told.push(translate('person', {id: person.id}) + ': ' + (place.score || '—'));
    between = between || !place.measured;
  }
  boxes.replaceChildren(...drawn);
  const said = !told.length ? (people.length ? words.no_face_now : '')
    : told.join(', ') + (between ? ' · ' + words.between : '');
  find('now').textContent = clip.still ? '' : said;
  if (clip.still || !clip.length) return;
  scrub.querySelector('i').style.left = (100 * now / clip.length) + '%';
  scrub.setAttribute('aria-valuemax', clip.length.toFixed(2));
  scrub.setAttribute('aria-valuenow', now.toFixed(2));
  scrub.setAttribute('aria-valuetext', now.toFixed(1) + ' s, ' + said);
}

function drawBox(person, {box, score, measured}, unit) {
  const make = (name, values) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
    return node;
  };
  const [left, top, right, bottom] = box;
  const group = make('g', {});
  const frame = {x: left, y: top, width: right - left, height: bottom - top, fill: 'none'};
  const dash = measured ? person.dash : '5 4';
  group.append(
    make('rect', {...frame, stroke: '#fff', 'stroke-width': 4 * unit}),
    make('rect', {...frame, stroke: person.colour, 'stroke-width': 2.5 * unit,
      'stroke-dasharray': dash.split(' ').map(v => v ? v * unit : '').join(' ')}));
  const text = person.id + (score ? '  ' + person.symbol + ' ' + score : '');
  const size = 13 * unit;
  const width = (text.length * 0.58 + 0.8) * size;
  const y = top > 1.6 * size ? top - 1.5 * size : Math.min(bottom, view.clip.height - 1.5 * size);
  group.append(make('rect', {x: left, y, width, height: 1.5 * size, fill: person.colour}));
  const label = make('text', {x: left + 0.4 * size, y: y + 1.1 * size, 'font-size': size,
    fill: person.ink, 'font-weight': 600});
  label.textContent = text;
  group.append(label);
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

function chooseAt(event) {
  const area = scrub.getBoundingClientRect();
  if (!area.width) return;
  let time = view.clip.length * (event.clientX - area.left) / area.width;
  const under = [...lanes.querySelectorAll('.lane[data-person]')].find(lane => {
    const at = lane.getBoundingClientRect();
    return event.clientY >= at.top && event.clientY < at.bottom;
  });
  const person = under && (view.people || []).find(p => p.id === Number(under.dataset.person));
  const inPixels = other => Math.abs(other - time) * area.width / view.clip.length;
  const times = person ? person.times : frames.map(frame => frame[1]);
  const close = times.filter(other => inPixels(other) <= SNAP)
    .sort((a, b) => inPixels(a) - inPixels(b))[0];
  if (close !== undefined) {
    time = close;
    if (person && event.type === 'click') choose(person, time);
  }
  seek(time);
}

function choose(person, time) {
  trigger('choose', {run, person: person.id, frame: nearestFrame(time)[0]});
}

let dragged = false;
scrub.addEventListener('pointerdown', () => { dragged = true; });
window.addEventListener('pointerup', () => { dragged = false; });
scrub.addEventListener('pointermove', event => { if (dragged) { pause(); chooseAt(event); } });
scrub.addEventListener('click', event => { pause(); chooseAt(event); });
scrub.addEventListener('keydown', event => {
  const moves = {
    ArrowRight: () => step(1), ArrowUp: () => step(1), ArrowLeft: () => step(-1),
    ArrowDown: () => step(-1), Home: () => seek(0), End: () => seek(view.clip.length), ' ': toggle,
    Enter: () => {
      const there = (view.people || []).find(p => p.times.some(t => Math.abs(t - now) < NEAR));
      if (there) choose(there, now);
    },
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
});

// What the server says -----------------------------------------------------------------------

function receive() {
  const value = props.value || {};
  if (value.run !== run) return;
  if (value.frames) frames = value.frames;
  const other = value.file && view.file && value.file !== view.file;
  if (other) {
    now = 0;
    boxes.replaceChildren();
  }
  const first = value.clip && (!view.clip || other);
  view = value;
  setState(value.state);
  find('card').innerHTML = value.card || '';
  find('desk').innerHTML = value.desk || '';
  if (drawnLanes !== value.lanes || !lanes.firstChild) {
    drawnLanes = value.lanes;
    lanes.innerHTML = value.lanes || '';
  }
  if (first) open(value);
  else if (playsFrames) showFrames();
  placeScrub();
  draw();
}

function open(value) {
  const address = blobs.get(value.file) || value.address;
  playsFrames = false;
  find('hint').hidden = true;
  root.classList.toggle('is-still', value.clip.still);
  if (value.clip.still) {
    const shown = address && still.src === address && still.naturalWidth;
    if (!shown) address ? showFile(address, true) : showFrames();
  } else {
    const shown = video.src && video.src.endsWith(address);
    if (!shown || video.error) showFile(address, false);
  }
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
  showMessage(words.cancelled);
});
find('desk').addEventListener('click', event => {
  const row = event.target.closest('[data-row]');
  if (row) trigger('open', {run, row: Number(row.dataset.row)});
});
const over = event => {
  if (![...event.dataTransfer.types].includes('Files')) return;
  if (event.target.closest && event.target.closest('.second-clip')) return;
  event.preventDefault();
  event.stopPropagation();
  root.classList.toggle('is-over', event.type === 'dragover');
  if (event.type === 'drop') take(event.dataTransfer.files);
};
for (const name of ['dragover', 'dragleave', 'drop']) document.addEventListener(name, over, true);
new ResizeObserver(() => { placeScrub(); draw(); }).observe(element);
watch('value', receive);
setState('empty');
