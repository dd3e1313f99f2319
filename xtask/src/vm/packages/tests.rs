//! Choosing among what `apt-cache show` says, shortened.

use super::*;

/// What stands between two packages, and fields that do not matter.
const SHOWN: &str = "\
Package: linux-image-5.10.0-46-cloud-amd64
Source: linux-signed-amd64 (5.10.262+1)
Version: 5.10.262-1
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool
Description: Linux 5.10 for x86-64 cloud (signed)
 Version: this is no field.
Size: 21521796
SHA256: 0510

Package: linux-image-5.10.0-9-cloud-amd64
Version: 5.10.70-1
SHA256: 0509

Package: linux-image-6.1-cloud-amd64
Version: 6.1.200-1
Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)
SHA256: 0600

Package: linux-image-6.1.0-50-cloud-amd64
Version: 6.1.170-1
SHA256: 0601

Package: linux-image-6.1.0-50-cloud-amd64
Version: 6.1.176-1
SHA256: 0602

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: dracut | linux-initramfs-tool, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), \
linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64
SHA256: 0730

Package: linux-binary-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
SHA256: 0731

Package: linux-modules-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
SHA256: 0732

Package: linux-image-7.4.0+deb14-cloud-amd64
Version: 7.4.0-1
Depends: linux-binary-7.4.0+deb14-cloud-amd64, linux-modules-7.4.0+deb14-cloud-amd64
SHA256: 0740

Package: linux-binary-7.4.0+deb14-cloud-amd64
Version: 7.4.0-1
SHA256: 0741
";

/// The release that is chosen, and its files' hashes.
fn chosen(shown: &str, series: Series) -> (String, Vec<String>) {
    let choice = choose(&parse(shown), series).expect("a kernel");
    let hashes = choice.packages.into_iter().map(|package| package.sha256);
    (choice.release, hashes.collect())
}

#[test]
fn the_newest_is_chosen_by_version_and_not_by_name() {
    let (release, hashes) = chosen(SHOWN, Series::V5_10);
    assert_eq!(release, "5.10.0-46-cloud-amd64");
    assert_eq!(hashes, ["0510"]);
}

#[test]
fn a_package_that_only_names_the_newest_is_no_kernel() {
    let (release, _) = chosen(SHOWN, Series::V6_1);
    assert_eq!(release, "6.1.0-50-cloud-amd64");
}

#[test]
fn of_one_package_in_two_suites_the_newer_one_is_taken() {
    assert_eq!(chosen(SHOWN, Series::V6_1).1, ["0602"]);
}

#[test]
fn a_kernel_in_parts_is_taken_in_parts() {
    let (release, hashes) = chosen(SHOWN, Series::V7);
    assert_eq!(release, "7.3.4+deb13-cloud-amd64");
    assert_eq!(hashes, ["0731", "0732"]);
}

#[test]
fn a_kernel_whose_parts_are_not_all_there_yet_is_passed_over() {
    let packages = parse(SHOWN);
    assert!(packages.contains_key("linux-image-7.4.0+deb14-cloud-amd64"));
    assert_eq!(chosen(SHOWN, Series::V7).0, "7.3.4+deb13-cloud-amd64");
}

#[test]
fn a_series_that_nobody_has_is_named() {
    let error = choose(&parse(SHOWN), Series::V6_12).expect_err("there is none");
    assert_eq!(error.to_string(), "the package lists have no kernel 6.12");
}
