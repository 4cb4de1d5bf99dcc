"""Whether the manifests fit each other; with `--print KEY` prints an entry of the ConfigMap. Needs PyYAML."""

import sys

import yaml


def main(arguments):
    wanted = None
    if arguments[0] == "--print":
        wanted, arguments = arguments[1], arguments[2:]
    objects = {}
    for path in arguments:
        with open(path, encoding="utf-8") as file:
            for one in yaml.safe_load_all(file):
                objects[one["kind"], one["metadata"]["name"]] = one
    config = objects["ConfigMap", "cursormesh"]
    if wanted:
        print(config["data"][wanted], end="")
        return

    pods = objects["StatefulSet", "cursormesh"]["spec"]
    template = pods["template"]
    node = template["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in node["env"]}
    ports = {one["name"]: one for one in node["ports"]}
    volumes = {one["name"]: one for one in template["spec"]["volumes"]}
    mounts = {one["name"]: one for one in node["volumeMounts"]}
    mesh, web = objects["Service", "cursormesh-mesh"], objects["Service", "cursormesh-web"]
    policy = objects["NetworkPolicy", "cursormesh"]["spec"]
    labels = template["metadata"]["labels"]
    checked = 0

    def same(what, *values):
        nonlocal checked
        checked += 1
        if any(value != values[0] for value in values):
            sys.exit(f"{what}: not the same everywhere: {values}")

    same("namespace", "cursormesh", *[one["metadata"]["namespace"] for (kind, _), one in objects.items() if kind != "Namespace"])
    same("labels of the pods", labels, pods["selector"]["matchLabels"], mesh["spec"]["selector"], web["spec"]["selector"],
         policy["podSelector"]["matchLabels"], objects["PodDisruptionBudget", "cursormesh"]["spec"]["selector"]["matchLabels"],
         *[one["labelSelector"]["matchLabels"] for one in template["spec"]["topologySpreadConstraints"]])
    same("the mesh's service", pods["serviceName"], mesh["metadata"]["name"], env["MESH_SERVICE"].split(".")[0])
    same("its namespace", mesh["metadata"]["namespace"], env["MESH_SERVICE"].split(".")[1])
    same("the mesh's port", int(env["MESH_PORT"]), ports["mesh"]["containerPort"], mesh["spec"]["ports"][0]["port"])
    same("the mesh's protocol", "UDP", ports["mesh"]["protocol"], mesh["spec"]["ports"][0]["protocol"])
    same("the browsers' port", int(env["WEB_PORT"]), ports["web"]["containerPort"],
         int(template["metadata"]["annotations"]["prometheus.io/port"]))
    same("names of ports", "web", web["spec"]["ports"][0]["targetPort"], policy["ingress"][0]["ports"][0]["port"],
         *[node[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")])
    same("no stickiness", web["spec"]["sessionAffinity"], "None")
    same("pods are found before they are ready", mesh["spec"]["publishNotReadyAddresses"], True)
    same("the ConfigMap", volumes["config"]["configMap"]["name"], config["metadata"]["name"])
    same("the start script", node["command"][-1], f"{mounts['config']['mountPath']}/start")
    same("the shared file", env["CONFIG"], f"{mounts['config']['mountPath']}/cluster.toml")
    same("the bundle", env["BUNDLE"], mounts["bundles"]["mountPath"])
    same("where the pod writes", env["RUN"], mounts["run"]["mountPath"])
    same("every mount has a volume", set(mounts), set(volumes))
    # 5 s for the stop itself, and some to spare.
    pause = int(node["lifecycle"]["preStop"]["exec"]["command"][1])
    same("time to stop", template["spec"]["terminationGracePeriodSeconds"] >= pause + 10, True)
    print(f"{checked} names and numbers agree")


main(sys.argv[1:])
