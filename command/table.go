package command

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table lays rows out in columns two spaces apart, each as wide as its widest
// cell. The last column is not padded. Cells are printed as clean makes them.
func table(rows [][]string) string { return columns(rows, 2) }

// wideTable is table with the columns six spaces apart, as the family lays out
// figures.
func wideTable(rows [][]string) string { return columns(rows, 6) }

func columns(rows [][]string, gap int) string {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(clean(cell)))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		if n > 0 {
			b.WriteByte('\n')
		}
		for i, cell := range row {
			cell = clean(cell)
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+gap))
			}
		}
	}
	return b.String()
}

// clean returns s with everything that could steer a terminal written as an
// escape: names and tags come from other machines.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, w := 0, 0; i < len(s); i += w {
		var r rune
		if r, w = utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && w == 1 || unprintable(r) {
			q := strconv.QuoteToASCII(s[i : i+w])
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// cleanText is clean for a text of several lines, which may be indented.
func cleanText(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		text := strings.TrimLeft(l, "\t")
		lines[i] = l[:len(l)-len(text)] + clean(text)
	}
	return strings.Join(lines, "\n")
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
