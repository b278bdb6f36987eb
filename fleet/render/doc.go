// Package render shows the values of the wire to a person: nodes, their life,
// their timeline. It holds pure functions from values to text; what a node
// wrote is stripped of control characters before it reaches a terminal.
package render
