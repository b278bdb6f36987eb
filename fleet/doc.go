// Package fleet is the wire: what nodes, the boot server, control and operators
// say to each other over NATS, under which subject, in which bucket, and who
// may write it. It is a contract: types and pure functions, standard library
// only.
//
// # Values
//
//	what                 where                                        writer
//	events               stream ingot-events, ingot.ev.<node>.<source>.<kind>   the node (agent, resident, vm); netboot, bmc, control
//	inventory, latest    KV ingot-inventory                           that node; joined with its BMC's view, control
//	readings, latest     KV ingot-readings                            that node; its BMC's, control
//	status, latest       KV ingot-status                              the status reducer, compare-and-set
//	grant, latest        KV ingot-grant, republished ingot.granted.<node>       the grant reconciler, compare-and-set
//	heartbeat            core ingot.hb.<node>                         that node
//	"ask again"          core ingot.wake.<key>                        control
//	nodes and sessions   KV ingot-nodes                               enrolment, compare-and-set
//	attempts             KV ingot-attempts                            control, compare-and-set before every power action
//	stacks, rules, expected machines, baselines   KV ingot-config     operators, signed
//	commands to control  micro services ingot.ctl.<verb>, ingot.bmc.<verb>      operators, signed
//
// JSON, snake_case, times in RFC 3339 UTC, sizes in bytes. Every value carries
// a schema, a message is at most [MaxMessageBytes].
//
// # Laws of the bus
//
// A node may publish ingot.ev.<n>.agent.> (or .resident.> and .vm.>),
// ingot.log.<n>.agent.>, ingot.hb.<n>, $KV.ingot-inventory.<n>, $KV.ingot-readings.<n> and
// $JS.API.DIRECT.GET.KV_ingot-grant.$KV.ingot-grant.<n>; it may subscribe to
// ingot.granted.<n>, ingot.cmd.<n>.* and _INBOX_<n>.>; it may answer once. It
// has no CONSUMER.*, no STREAM.* and no $SRV. A grant's republished copy is a
// hint: the value is fetched. A command without a valid signature is nothing.
//
// Nodes and control live in two NATS accounts, and only the subjects above
// cross between them. With one account a node could write any key of any bucket
// by naming the key's subject as the reply of a publish: JetStream sends its
// acknowledgement there, and asks no permission for it.
//
// # Enrolment
//
// Per boot the agent makes an nkey and connects twice. As the user [UserEnroll]
// it may only ask [SubjectEnroll]; the answer allots its node ID. As the user
// [UserNode], with the same nkey, it has the laws above. The resident agent
// does the same with a key of its own and a [HandoffToken] that the agent's key
// signed before the jump. Who asks is known by the server's word for the
// connection, never by what the request says.
//
// Under the policy approve a server waits as pending until an operator's signed
// command ([SubjectApprove], [SubjectReject], [SubjectRevoke]) puts an
// [Approval] into the node's record. It names the identity that the operator
// was shown, so it covers no boot that says another UUID or serial. Until then
// the key may ask, and hear [WakeSubject], and no more. Revoking ends the
// sessions at once and denies their keys for good. Each word, and each command
// that was refused, is an event of control: of the server that it names, or of
// [ControlNode] where it names none.
//
// # Foreign bytes
//
// Every reader of the wire goes through [CheckMessage] first: size, UTF-8,
// depth. A node that sends what is no message finds that in its own timeline.
//
// # Reasons
//
// Whatever does not go on says why by a [ReasonCode]. [Reasons] is the one table
// of all codes that any part of Ingot gives, with what each means, its likely
// causes, what to look at and what to do; REASONS.md is made from it, and so are
// `ingot explain` and the hints of statuses, events and refusals. A test reads
// the source of every package: a code that the table lacks, or one that nobody
// gives, turns it red.
package fleet
