package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"berth/internal/atomicfile"
)

// curve is how figures grow, drawn over a logarithmic axis.
type curve struct {
	title  string
	lines  []string // what they are
	x      []float64
	values [][]float64 // by point, then by line
}

func (c *curve) add(x float64, values ...float64) {
	c.x, c.values = append(c.x, x), append(c.values, values)
}

// svg draws the curve.
func (c *curve) svg() string {
	const width, height, left, top, right, bottom = 640, 300, 60, 40, 110, 40
	highest := 0.0
	for _, v := range c.values {
		for _, f := range v {
			highest = max(highest, f)
		}
	}
	highest = niceAbove(highest)
	last := math.Log10(max(10, c.x[len(c.x)-1]))
	px := func(x float64) float64 { return left + (width-left-right)*math.Log10(max(1, x))/last }
	py := func(y float64) float64 { return height - bottom - (height-top-bottom)*y/highest }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/><text x="%d" y="22" font-size="14">%s</text>`+"\n", width, height, left, c.title)
	for i := range 5 {
		y := highest * float64(i) / 4
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			left, py(y), width-right, left-8, py(y)+4, y)
	}
	for _, x := range c.x {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", px(x), height-bottom+18, x)
	}
	colours := []string{"#0b6", "#06b", "#b60"}
	for line, name := range c.lines {
		var points []string
		for i, x := range c.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", px(x), py(c.values[i][line])))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", px(x), py(c.values[i][line]), colours[line])
		}
		end := c.values[len(c.values)-1][line]
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%d" y="%.1f" fill="%s">%s</text>`+"\n",
			strings.Join(points, " "), colours[line], width-right+8, py(end)+4, colours[line], name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// niceAbove returns a round number that is no smaller.
func niceAbove(v float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(v, 1))))
	return step * math.Ceil(v/step)
}

// drawCurves puts the curves beside a page, as images/bench-NAME.svg.
func (b *bench) drawCurves(page string) error {
	for name, c := range b.curves {
		file := filepath.Join(filepath.Dir(page), "images", "bench-"+name+".svg")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := atomicfile.Write(file, []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
