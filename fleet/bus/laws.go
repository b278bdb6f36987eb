package bus

import (
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/jwt/v2"
)

// The laws of the bus: allow lists, by user. Package fleet states them.

// enrollLife bounds a connection that only enrols.
const enrollLife = 10 * time.Minute

func enrollLaws(key string) jwt.Permissions {
	return jwt.Permissions{
		Pub: jwt.Permission{Allow: jwt.StringList{string(fleet.SubjectEnroll)}},
		Sub: jwt.Permission{Allow: jwt.StringList{fleet.InboxPrefix(key) + ".>", string(fleet.WakeSubject(key))}},
	}
}

// nodeLaws are those of one session: a resident cannot speak as the agent, nor
// the agent as the resident.
func nodeLaws(n fleet.NodeID, r fleet.Role) jwt.Permissions {
	id := string(n)
	pub := jwt.StringList{
		string(fleet.HeartbeatSubject(n)),
		string(fleet.DirectGetSubject(fleet.BucketGrant, id)),
	}
	switch r {
	case fleet.RoleAgent:
		pub = append(pub, "ingot.ev."+id+".agent.>", "ingot.log."+id+".agent.>",
			string(fleet.KVSubject(fleet.BucketInventory, id)), string(fleet.KVSubject(fleet.BucketReadings, id)))
	case fleet.RoleResident:
		pub = append(pub, "ingot.ev."+id+".resident.>", "ingot.ev."+id+".vm.>", "ingot.log."+id+".resident.>")
	}
	return jwt.Permissions{
		Pub: jwt.Permission{Allow: pub},
		Sub: jwt.Permission{Allow: jwt.StringList{
			string(fleet.GrantedSubject(n)), "ingot.cmd." + id + ".*", fleet.InboxPrefix(id) + ".>",
		}},
		Resp: &jwt.ResponsePermission{MaxMsgs: 1, Expires: time.Minute},
	}
}

// operatorLaws let a console read every stream and bucket, write the config
// bucket, and ask. What an operator asks is believed for its signature only.
func operatorLaws(key string) jwt.Permissions {
	return jwt.Permissions{
		Pub: jwt.Permission{Allow: jwt.StringList{
			"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
			"$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.CREATE.>",
			"$JS.API.CONSUMER.INFO.>", "$JS.API.CONSUMER.DELETE.>", "$JS.API.CONSUMER.MSG.NEXT.>",
			"$JS.ACK.>", "$JS.FC.>", "$SRV.>",
			string(fleet.KVSubject(fleet.BucketConfig, ">")), "ingot.ctl.>", "ingot.bmc.>", "ingot.cmd.>",
		}},
		Sub: jwt.Permission{Allow: jwt.StringList{
			fleet.InboxPrefix(key) + ".>", "ingot.hb.>", "ingot.ev.>", "ingot.granted.>",
		}},
	}
}

// UserReconciler is what a grant reconciler connects as that runs apart from
// this process.
const UserReconciler = "reconciler"

// reconcilerLaws let a grant reconciler read what an operator reads and write
// grants. What it writes is believed by agents for its signatures only.
func reconcilerLaws(key string) jwt.Permissions {
	p := operatorLaws(key)
	p.Pub.Allow = append(p.Pub.Allow, string(fleet.KVSubject(fleet.BucketGrant, ">")))
	return p
}

// crossings are the subjects that lead from NODES into INGOT as requests.
// Heartbeats are among them although nobody answers: as a stream they would
// also lead over what JetStream answers to a reply subject that a node chose.
var crossings = []string{
	string(fleet.SubjectEnroll),
	"ingot.ev.>",
	"ingot.hb.*",
	"$KV." + fleet.BucketInventory + ".*",
	"$KV." + fleet.BucketReadings + ".*",
	"$JS.API.DIRECT.GET.KV_" + fleet.BucketGrant + ".$KV." + fleet.BucketGrant + ".*",
}
