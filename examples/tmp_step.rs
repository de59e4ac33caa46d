use cohort::train::{step::*, optimizer::*}; use cohort::torch::*; use cohort::graph::*; use cohort::config::{LossTerms,Sgd}; use tch::*;
fn main(){
 let spec = cohort::zoo::find_model("resnet20", std::path::Path::new(".")).unwrap();
 let g = cohort::zoo::build(&spec,[3,32,32],100).unwrap();
 let terms = LossTerms{alpha:1.,beta:1.,gamma:1.,beta0:1.,beta1:2.,beta2:1.,temperature:4.};
 let mut st: Vec<Student> = (0..2).map(|k|{ let w=initial_weights(&g,k); let network=Network::new(&g,&w,Device::Cpu,Kind::Float).unwrap(); let (fg,fw)=fold_batch_norm(&g,&w).unwrap();
   let frozen=Some(Network::new(&fg,&fw,Device::Cpu,Kind::Float).unwrap()); let optimizer=SgdState::new(&network,&Sgd::default()).unwrap(); Student{name:format!("{k}"),network,frozen,optimizer}}).collect();
 let x=Tensor::randn([128,3,32,32],(Kind::Float,Device::Cpu)); let y=Tensor::randint(100,[128],(Kind::Int64,Device::Cpu));
 let mut ts=vec![]; for i in 0..13 { let t=std::time::Instant::now(); let r=step(&mut st,&terms,&x,&y,0.05).unwrap(); let s=t.elapsed().as_secs_f64(); if i>=3 {ts.push(s)}; if i<2 {r.print();} }
 ts.sort_by(f64::total_cmp); println!("median {:.1} ms {:.1} images/s", ts[5]*1e3, 128./ts[5]);
}
