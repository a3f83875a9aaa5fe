
(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('page-data').textContent);
  const folds = [...document.querySelectorAll('details')];
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = folds.filter((fold) => !fold.open);
    opened.forEach((fold) => { fold.open = true; });
  });
  addEventListener('afterprint', () => opened.forEach((fold) => { fold.open = false; }));
  const slider = document.getElementById('slider');
  if (!data || !slider || data.epochs.length < 2) return;
  const input = document.getElementById('epoch');
  const families = ['sep', 'dil', 'max', 'avg', 'skip'];
  const byte = (hex, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16) / 255;

  const drawGraph = (name, cell, i) => {
    const graph = document.getElementById(`graph-${name}`);
    if (!graph) return;
    for (const edge of graph.querySelectorAll('g.edge')) {
      const e = Number(edge.dataset.edge);
      const label = data.labels[cell.kept[i][e]];
      const tied = label && cell.ties[i].includes(e);
      const family = families.find((word) => label.startsWith(word)) || 'other';
      const kind = label ? `edge ${family}${tied ? ' tie' : ''}` : 'edge gone';
      edge.setAttribute('class', kind);
      edge.querySelector('text').textContent = tied ? `${label} \u2248` : label;
      const width = cell.scores.length ? 1 + (data.widest - 1) * byte(cell.scores[i], e) : 1.6;
      edge.querySelector('path').setAttribute('stroke-width', width.toFixed(1));
    }
  };

  const drawHeat = (name, hex, kept) => {
    const map = document.getElementById(`heat-${name}`);
    if (!map || !hex) return;
    map.querySelectorAll('rect.box').forEach((box, k) => {
      box.setAttribute('fill-opacity', byte(hex, k).toFixed(3));
      box.classList.toggle('kept', kept.includes(k));
    });
  };

  const drawMarkers = (epoch) => {
    for (const chart of document.querySelectorAll('svg.chart')) {
      const { left, right, first, last } = chart.dataset;
      const part = last > first ? (epoch - first) / (last - first) : 1;
      const x = Number(left) + part * (right - left);
      const marker = chart.querySelector('.marker');
      marker.setAttribute('x1', x.toFixed(1));
      marker.setAttribute('x2', x.toFixed(1));
    }
  };

  const show = () => {
    const i = Number(input.value);
    const epoch = data.epochs[i];
    document.getElementById('number').textContent = epoch;
    input.setAttribute('aria-valuetext', `epoch ${epoch}`);
    document.getElementById('line').textContent = data.lines[i];
    for (const [name, cell] of Object.entries(data.cells)) {
      drawGraph(name, cell, i);
      drawHeat(`alpha-${name}`, cell.alpha[i], cell.chosen[i]);
      drawHeat(`beta-${name}`, cell.beta[i], cell.codes[i]);
      const text = document.getElementById(`text-${name}`);
      if (text) text.textContent = cell.texts[i];
    }
    drawMarkers(epoch);
  };

  slider.hidden = false;
  document.body.classList.add('live');
  input.addEventListener('input', show);
  show();
})();
