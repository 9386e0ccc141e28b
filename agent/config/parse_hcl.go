package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/token"
)

// maxBrackets bounds how deep a document can be nested before the parser,
// which recurses, sees it.
const maxBrackets = 100_000

// parseHCL reads one HCL (version 1) document. Errors give the line and a
// fixed phrase: the library's own texts may quote the file.
func parseHCL(file string, data []byte) (n *node, err error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxBrackets {
		return nil, fmt.Errorf("%s: too many brackets", file)
	}
	defer func() { // the library panics on some malformed literals
		if recover() != nil {
			n, err = nil, fmt.Errorf("%s: not valid HCL: a value cannot be read", file)
		}
	}()
	tree, err := parser.Parse(data)
	if err != nil {
		var pos *parser.PosError
		if errors.As(err, &pos) && pos.Pos.Line > 0 {
			return nil, fmt.Errorf("%s:%d: not valid HCL: syntax error at column %d", file, pos.Pos.Line, pos.Pos.Column)
		}
		return nil, fmt.Errorf("%s: not valid HCL: syntax error", file)
	}
	list, ok := tree.Node.(*ast.ObjectList)
	if !ok {
		return nil, fmt.Errorf("%s: the top of a configuration must be an object", file)
	}
	c := hclConverter{file: file}
	return c.object(list, 1)
}

type hclConverter struct{ file string }

func (c hclConverter) object(list *ast.ObjectList, line int) (*node, error) {
	n := newObject(place{c.file, line})
	if list == nil {
		return n, nil
	}
	for _, item := range list.Items {
		if len(item.Keys) == 0 {
			return nil, fmt.Errorf("%s:%d: not valid HCL: a value without a key", c.file, line)
		}
		at := place{c.file, item.Keys[0].Pos().Line}
		value, err := c.value(item.Val, at.line)
		if err != nil {
			return nil, err
		}
		if value.kind == objectNode {
			value.blocks = true
		}
		// A label is an object of its own: its name is then an unknown key.
		for i := len(item.Keys) - 1; i > 0; i-- {
			label, err := hclKey(item.Keys[i])
			if err != nil {
				return nil, fmt.Errorf("%s: not valid HCL: bad key", at)
			}
			outer := newObject(place{c.file, item.Keys[i].Pos().Line})
			outer.set(label, value)
			value = outer
			value.blocks = true
		}
		name, err := hclKey(item.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("%s: not valid HCL: bad key", at)
		}
		value.at = at
		before := n.obj[name]
		switch {
		case before == nil || !value.blocks:
			n.set(name, value)
		case before.kind == objectNode: // a second block of the name
			n.set(name, &node{kind: listNode, at: before.at, blocks: true, list: []*node{before, value}})
		case before.kind == listNode && before.blocks:
			before.list = append(before.list, value)
		default:
			n.set(name, value)
		}
	}
	return n, nil
}

func hclKey(k *ast.ObjectKey) (string, error) {
	switch k.Token.Type {
	case token.IDENT, token.STRING:
		if s, ok := k.Token.Value().(string); ok {
			return s, nil
		}
	}
	return "", errors.New("bad key")
}

func (c hclConverter) value(v ast.Node, line int) (*node, error) {
	switch v := v.(type) {
	case *ast.ObjectType:
		return c.object(v.List, line)
	case *ast.ListType:
		n := &node{kind: listNode, at: place{c.file, line}}
		for _, item := range v.List {
			child, err := c.value(item, item.Pos().Line)
			if err != nil {
				return nil, err
			}
			n.list = append(n.list, child)
		}
		return n, nil
	case *ast.LiteralType:
		return c.literal(v, line)
	}
	return nil, fmt.Errorf("%s:%d: not valid HCL: unexpected value", c.file, line)
}

func (c hclConverter) literal(v *ast.LiteralType, line int) (*node, error) {
	n := &node{at: place{c.file, line}}
	switch v.Token.Type {
	case token.BOOL:
		n.kind, n.b = boolNode, v.Token.Text == "true"
	case token.NUMBER:
		i, err := strconv.ParseInt(v.Token.Text, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: not valid HCL: number out of range", c.file, line)
		}
		n.kind, n.i, n.f = intNode, i, float64(i)
	case token.FLOAT:
		f, err := strconv.ParseFloat(v.Token.Text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: not valid HCL: number out of range", c.file, line)
		}
		n.kind, n.f = floatNode, f
	case token.STRING, token.HEREDOC:
		s, ok := v.Token.Value().(string)
		if !ok {
			return nil, fmt.Errorf("%s:%d: not valid HCL: bad string", c.file, line)
		}
		n.kind, n.str = stringNode, s
	default:
		return nil, fmt.Errorf("%s:%d: not valid HCL: unexpected value", c.file, line)
	}
	return n, nil
}
