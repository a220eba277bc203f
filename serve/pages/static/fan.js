// The price chart: candles, the model's fan and the calibrated one as custom series, the median.

class BandRenderer {
  constructor(options) { this.options = options; this.bars = null; }
  update(bars) { this.bars = bars; }
  draw(target, toCoordinate) {
    target.useBitmapCoordinateSpace((scope) => {
      const data = this.bars;
      if (!data || !data.visibleRange) return;
      const points = [];
      for (let i = data.visibleRange.from; i < data.visibleRange.to; i += 1) {
        const bar = data.bars[i];
        if (bar.originalData.upper === undefined) continue;
        points.push([bar.x, toCoordinate(bar.originalData.upper), toCoordinate(bar.originalData.lower)]);
      }
      if (points.length < 2) return;
      const { context, horizontalPixelRatio: h, verticalPixelRatio: v } = scope;
      context.beginPath();
      points.forEach(([x, upper], i) => context[i ? "lineTo" : "moveTo"](x * h, upper * v));
      points.reverse().forEach(([x, , lower]) => context.lineTo(x * h, lower * v));
      context.closePath();
      context.fillStyle = this.options.fill;
      context.fill();
      if (this.options.edge) this.edges(context, points, h, v);
    });
  }
  edges(context, points, h, v) {
    context.strokeStyle = this.options.edge;
    context.lineWidth = 1.5 * h;
    context.setLineDash([5 * h, 4 * h]);
    for (const side of [1, 2]) {
      context.beginPath();
      points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](point[0] * h, point[side] * v));
      context.stroke();
    }
    context.setLineDash([]);
  }
}

function bandSeries(fill, edge = null) {
  const renderer = new BandRenderer({ fill, edge });
  return {
    renderer: () => renderer,
    update: (bars) => renderer.update(bars),
    priceValueBuilder: (row) => [row.lower, row.upper, row.upper],
    isWhitespace: (row) => row.upper === undefined,
    defaultOptions: () => ({ color: fill }),
  };
}

const seconds = (text) => Math.floor(Date.parse(text) / 1000);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function theme() {
  return {
    layout: { background: { color: colour("--panel") }, textColor: colour("--soft"), fontFamily: "system-ui, sans-serif" },
    grid: { vertLines: { color: colour("--line") }, horzLines: { color: colour("--line") } },
    rightPriceScale: { borderColor: colour("--line") },
    timeScale: { borderColor: colour("--line") },
  };
}

export function createFanChart(container) {
  const { createChart } = window.LightweightCharts;
  const chart = createChart(container, { ...theme(), autoSize: true, timeScale: { ...theme().timeScale, rightOffset: 3 } });
  const band = chart.addCustomSeries(bandSeries(colour("--band")), { priceLineVisible: false, lastValueVisible: false, color: colour("--median") });
  const calibrated = chart.addCustomSeries(bandSeries(colour("--calibrated-fill"), colour("--calibrated")), { priceLineVisible: false, lastValueVisible: false, color: colour("--calibrated") });
  const candles = chart.addCandlestickSeries({
    upColor: colour("--up"), wickUpColor: colour("--up"), borderUpColor: colour("--up"),
    downColor: colour("--panel"), wickDownColor: colour("--down"), borderDownColor: colour("--down"),
  });
  const median = chart.addLineSeries({ color: colour("--median"), lineWidth: 2, priceLineVisible: false, lastValueVisible: false });
  return {
    draw(bars, forecast, horizon) {
      const intraday = forecast.timeframe !== "1d";
      chart.applyOptions({ timeScale: { timeVisible: intraday } });
      const step = priceStep(forecast.p50[0]);
      for (const series of [candles, median, band, calibrated]) series.applyOptions({ priceFormat: step });
      candles.setData(bars.map((bar) => ({ time: seconds(bar.ts), open: bar.open, high: bar.high, low: bar.low, close: bar.close })));
      const start = fanStart(bars, forecast);
      const times = forecast.target_ts.slice(0, horizon).map(seconds);
      const fan = ({ p10, p90 }) => [...start.map(({ time, value }) => ({ time, lower: value, upper: value })), ...times.map((time, i) => ({ time, lower: p10[i], upper: p90[i] }))];
      band.setData(fan(forecast));
      calibrated.setData(forecast.band ? fan(forecast.band) : []);
      median.setData([...start, ...times.map((time, i) => ({ time, value: forecast.p50[i] }))]);
      chart.timeScale().setVisibleLogicalRange({ from: bars.length - Math.max(80, 2 * horizon), to: bars.length + horizon + 2 });
    },
    show({ isBand, isCalibrated }) {
      band.applyOptions({ visible: isBand });
      calibrated.applyOptions({ visible: isCalibrated });
    },
    move(key) {
      const scale = chart.timeScale();
      const range = scale.getVisibleLogicalRange();
      if (!range) return;
      const width = range.to - range.from;
      const moves = { ArrowLeft: [-0.1, -0.1], ArrowRight: [0.1, 0.1], "+": [0.1, -0.1], "-": [-0.1, 0.1] };
      if (!moves[key]) return;
      scale.setVisibleLogicalRange({ from: range.from + moves[key][0] * width, to: range.to + moves[key][1] * width });
    },
  };
}

function fanStart(bars, forecast) {
  const first = seconds(forecast.target_ts[0]);
  const before = bars.filter((bar) => seconds(bar.ts) < first);
  if (!before.length) return [];
  const last = before[before.length - 1];
  return [{ time: seconds(last.ts), value: last.close }];
}

function priceStep(price) {
  const digits = price >= 1000 ? 2 : price >= 10 ? 3 : 5;
  return { type: "price", precision: digits, minMove: 10 ** -digits };
}
