// Package scenario is the main job, done on a lab: power both servers on, wait
// until they are inventoried, assign them a stack, and ask the services that
// come up. `ingot lab up --run` does it for people, the end-to-end test as a
// check; both press the buttons by the operator's own command line.
package scenario
