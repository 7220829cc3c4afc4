const choose = point => {
  element.querySelectorAll('.point').forEach(other => {
    other.removeAttribute('aria-current');
    if (other.tagName !== 'BUTTON') other.setAttribute('r', 5);
  });
  point.setAttribute('aria-current', 'true');
  if (point.tagName !== 'BUTTON') point.setAttribute('r', 8);
  trigger('click', {
    frame: Number(point.dataset.frame),
    person: point.dataset.person ? Number(point.dataset.person) : null});
};
element.addEventListener('click', event => {
  const point = event.target.closest('.point');
  if (point) choose(point);
});
element.addEventListener('keydown', event => {
  const point = event.target.closest('.point');
  if (!point) return;
  if (point.tagName !== 'BUTTON' && (event.key === 'Enter' || event.key === ' ')) {
    event.preventDefault(); choose(point);
  }
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (step) {
    const points = [...element.querySelectorAll('.point')];
    const next = points[points.indexOf(point) + step];
    if (next) { event.preventDefault(); next.focus(); }
  }
});
